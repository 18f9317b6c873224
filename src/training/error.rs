//! Why a run did not finish, told apart by whether another attempt could.

use super::few_shot::TooFewImages;
use super::host::{HostError, Stop};
use super::metrics::CannotJudge;
use super::probe::ProbeError;
use crate::domain::forecast::TooLarge;
use crate::imaging::ImagingError;
use crate::inference::InferenceError;
use crate::nn::weights::WeightsError;
use crate::onnx::OnnxError;

/// Why a run did not finish.
#[derive(Debug, thiserror::Error)]
pub enum TrainingError {
    /// It was asked to stop.
    #[error("stopped")]
    Stopped(Stop),
    /// The database or the blob store failed; another attempt may succeed.
    #[error("{0}")]
    Host(HostError),
    /// The dataset has too few images.
    #[error(transparent)]
    TooFewImages(#[from] TooFewImages),
    /// The probe cannot be fitted.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// The test split cannot be judged.
    #[error(transparent)]
    CannotJudge(#[from] CannotJudge),
    /// An image that was readable when it was uploaded no longer is.
    #[error("image {image} of the dataset version {error}")]
    Image {
        /// The image's id.
        image: crate::domain::ImageId,
        /// What is wrong with it.
        error: ImagingError,
    },
    /// Inference failed.
    #[error(transparent)]
    Inference(#[from] InferenceError),
    /// A tensor operation failed.
    #[error("a computation failed: {0}")]
    Tensor(#[from] candle_core::Error),
    /// The weights could not be read or written.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The ONNX file could not be written.
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    /// The loss or the gradients left the numbers.
    #[error(
        "the {what} is not a number any more in step {step} (epoch {epoch}), first in {layer}; the \
         checkpoint from before is kept. Try a learning rate below {learning_rate}"
    )]
    Diverged {
        /// `loss`, `gradient` or `validation loss`.
        what: &'static str,
        /// The parameter or stage where it was found first.
        layer: String,
        /// The step, from 1.
        step: u64,
        /// The epoch, from 1.
        epoch: u32,
        /// The peak learning rate of the run.
        learning_rate: f64,
    },
    /// Not even one image at a time fits into the memory.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// A run without a loss cannot be replayed.
    #[error("the run has no losses on record that a replay could compare")]
    NothingRecorded,
    /// A file of the run could not be handled; another attempt may succeed.
    #[error("a temporary file failed: {0}")]
    Io(#[from] std::io::Error),
}

impl From<HostError> for TrainingError {
    fn from(error: HostError) -> Self {
        Self::Host(error)
    }
}

impl TrainingError {
    /// Whether another attempt could end otherwise.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Host(_) | Self::Io(_) | Self::Inference(_) => true,
            Self::Stopped(_)
            | Self::TooFewImages(_)
            | Self::Probe(_)
            | Self::CannotJudge(_)
            | Self::Image { .. }
            | Self::Tensor(_)
            | Self::Weights(_)
            | Self::Onnx(_)
            | Self::Diverged { .. }
            | Self::TooLarge(_)
            | Self::NothingRecorded => false,
        }
    }
}
