//! The roles of callers: three, each allowed what the ones below it are.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A caller's role; the order is the order of power.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
    clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads everything and asks for predictions.
    Viewer,
    /// Also uploads datasets and starts, cancels and deletes runs.
    Trainer,
    /// Also imports backbones and manages keys.
    Admin,
}

impl Role {
    /// The word used in JSON, SQL and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Trainer => "trainer",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = super::word::UnknownWord;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Viewer, Self::Trainer, Self::Admin]
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| super::word::UnknownWord::new("role", text))
    }
}
