//! The three parts of a dataset version.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::run::UnknownWord;

/// Which part of a version an image belongs to. No patient is ever in two parts.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// What the model learns from.
    Train,
    /// What decides when to stop.
    Validation,
    /// What the evaluation is measured on, and nothing else.
    Test,
}

impl Split {
    /// Every split, in order.
    pub const ALL: [Self; 3] = [Self::Train, Self::Validation, Self::Test];

    /// The word used in JSON, SQL and `labels.csv`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Split {
    type Err = UnknownWord;

    /// Reads the word; `val` and `valid` are accepted for `validation`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim().to_ascii_lowercase().as_str() {
            "train" | "training" => Ok(Self::Train),
            "validation" | "val" | "valid" => Ok(Self::Validation),
            "test" | "testing" => Ok(Self::Test),
            _ => Err(UnknownWord::new("split", text)),
        }
    }
}
