//! The reasons why pictures were not answered for.

use tokio::sync::AcquireError;
use tokio::task::JoinError;

use crate::decode::DecodeError;
use crate::inference::InferenceError;
use crate::service::violation::{Violation, sentence};
use crate::store::StoreError;

/// The reason why pictures were not answered for.
#[derive(Debug, thiserror::Error)]
pub enum PredictError {
    /// Files that give no picture, each with the reason.
    #[error("{}", sentence(.0))]
    Unreadable(Vec<Violation>),
    /// The process that reads files could not be asked.
    #[error(transparent)]
    Decode(DecodeError),
    /// The model has no network.
    #[error("there is no file of this model named {0:?}")]
    NoNetwork(&'static str),
    /// The network is busy, too slow or broken.
    #[error(transparent)]
    Inference(#[from] InferenceError),
    /// The network answers with what is no number.
    #[error(
        "frame {frame} of the picture makes the network answer with what is not a number (NaN or \
         infinite): its weights, or the picture's values, are beyond what it can compute with. Try \
         another picture; when that fails too, run the training again"
    )]
    NotANumber {
        /// Frame within its file.
        frame: u32,
    },
    /// The network is of another model: its answers are not one for each class.
    #[error("{found} probabilities for {labels} labels")]
    OtherClasses {
        /// Probabilities that it gives.
        found: usize,
        /// Classes of the model.
        labels: usize,
    },
    /// The network's file could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nothing is decoded any more.
    #[error(transparent)]
    Closed(#[from] AcquireError),
    /// The work itself broke.
    #[error(transparent)]
    Broken(#[from] JoinError),
}
