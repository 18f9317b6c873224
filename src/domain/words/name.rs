//! Names that people give to things: short, one line, the same however they were typed.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::line::{self, BadLine};

/// A name for a dataset, backbone, model or key: 1 to [`line::MAX_LINE_CHARS`] printable characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, min_length = 1, max_length = 120)]
pub struct Name(String);

/// The reason why a text cannot be a name.
#[derive(Debug, thiserror::Error)]
#[error("the name {0}")]
pub struct BadName(#[from] BadLine);

impl Name {
    /// Checks `text` and brings it into the form that names are stored in.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        Ok(Self(line::parse(text)?))
    }

    /// A name as it was stored, perhaps when other rules held.
    pub fn stored(text: String) -> Self {
        Self(text)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Name {
    type Error = BadName;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}
