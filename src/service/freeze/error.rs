//! The reasons why a dataset was not frozen.

use tokio::task::JoinError;

use crate::domain::split::SplitError;
use crate::store::StoreError;

/// The reason why a dataset was not frozen; there is no version then.
#[derive(Debug, thiserror::Error)]
pub enum FreezeError {
    /// The dataset has more classes than allowed.
    #[error("the dataset has {found} classes; the limit is {max} (LVMED_LIMIT_CLASSES)")]
    TooManyClasses {
        /// Classes found.
        found: usize,
        /// Classes allowed.
        max: u64,
    },
    /// The shares asked for leave nothing for training or for test.
    #[error(transparent)]
    BadShares(SplitError),
    /// The labels put images of one patient into several splits.
    #[error("{split}{}", behind(.images))]
    PatientLeak {
        /// The error of the split.
        split: SplitError,
        /// For some of them two images that say so.
        images: Vec<String>,
    },
    /// Every patient of a class is marked for validation or test.
    #[error(
        "class {class:?} has no training image: all of its patients are marked for validation or \
         test; add patients or change the marks"
    )]
    ClassWithoutTraining {
        /// The class.
        class: String,
    },
    /// The images are too few, or too much alike, to be split.
    #[error(transparent)]
    TooFew(SplitError),
    /// Images could not be read, or the version not be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The work itself broke.
    #[error(transparent)]
    Broken(#[from] JoinError),
}

/// Examples as the next sentence.
fn behind(images: &[String]) -> String {
    if images.is_empty() { String::new() } else { format!(". {}", images.join("; ")) }
}
