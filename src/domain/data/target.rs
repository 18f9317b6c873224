//! The target of an example: what a model is to answer for it.

/// The target of an example, by the task of its version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target {
    /// The index of the image's class in the version's labels.
    Class(usize),
}

impl Target {
    /// The index of the class: every target is one today.
    pub fn class(self) -> usize {
        match self {
            Self::Class(class) => class,
        }
    }
}
