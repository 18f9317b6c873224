//! Names that people give to things: short, one line, no control characters.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest name, in characters.
pub const MAX_NAME_CHARS: usize = 120;

/// A name for a dataset, backbone, model or key: 1 to [`MAX_NAME_CHARS`] printable characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, min_length = 1, max_length = 120)]
pub struct Name(String);

/// Why a text cannot be a name.
#[derive(Debug, thiserror::Error)]
pub enum BadName {
    /// Nothing but white space.
    #[error("a name must not be empty")]
    Empty,
    /// Longer than [`MAX_NAME_CHARS`].
    #[error("the name has {found} characters; the limit is {MAX_NAME_CHARS}")]
    TooLong {
        /// Characters found.
        found: usize,
    },
    /// Holds a line break or another control character.
    #[error("a name must not hold control characters")]
    Control,
}

impl Name {
    /// Checks and trims `text`.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        let text = text.trim();
        let found = text.chars().count();
        if found == 0 {
            Err(BadName::Empty)
        } else if found > MAX_NAME_CHARS {
            Err(BadName::TooLong { found })
        } else if text.chars().any(char::is_control) {
            Err(BadName::Control)
        } else {
            Ok(Self(text.to_owned()))
        }
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
