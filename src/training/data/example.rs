//! One labelled image of a frozen version, as training sees it.

use crate::domain::{ImageId, Sha256, Split, Target};

/// An image: its original and the frame of it.
pub(in crate::training) type Key = (Sha256, u32);

/// A labelled image of the frozen version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// The image.
    pub image: ImageId,
    /// Its stored original.
    pub blob: Sha256,
    /// Frame within the original.
    pub frame: u32,
    /// The answer that a model is to give for it.
    pub target: Target,
    /// Key of its patient.
    pub patient: String,
    /// The part of the version it belongs to.
    pub split: Split,
}

impl Example {
    /// The index of its class in the version's labels.
    pub fn class(&self) -> usize {
        self.target.class()
    }

    /// The original and the frame of it.
    pub(in crate::training) fn key(&self) -> Key {
        (self.blob, self.frame)
    }
}
