//! Words out of a fixed set, as JSON and SQL have them.

/// A word that is none of the allowed ones.
#[derive(Debug, thiserror::Error)]
#[error("{text:?} is not a known {what}")]
pub struct UnknownWord {
    what: &'static str,
    text: String,
}

impl UnknownWord {
    /// `text` is not a `what`.
    pub fn new(what: &'static str, text: &str) -> Self {
        Self { what, text: text.chars().take(80).collect() }
    }
}
