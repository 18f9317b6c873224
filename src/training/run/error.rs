//! The reasons why a run did not finish, told apart by whether another attempt could.

use super::host::{HostError, Stop};
use crate::domain::forecast::TooLarge;
use crate::domain::pretrain::BatchTooLarge;
use crate::imaging::ImagingError;
use crate::inference::{InferenceError, ParityError};
use crate::nn::trace::without_trace;
use crate::nn::weights::WeightsError;
use crate::onnx::OnnxError;
use crate::training::data::few_shot::TooFewImages;
use crate::training::judge::metrics::CannotJudge;
use crate::training::probe::head::ProbeError;

/// The reason why a run did not finish.
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
        /// The error that makes it unreadable.
        error: ImagingError,
    },
    /// Inference failed.
    #[error(transparent)]
    Inference(#[from] InferenceError),
    /// A tensor operation failed.
    #[error("a computation failed: {}", without_trace(&.0.to_string()))]
    Tensor(#[from] candle_core::Error),
    /// The weights could not be read or written.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The ONNX file could not be written.
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    /// The loss or the gradients left the numbers.
    #[error(
        "the {what} is not a number any more in step {step} (epoch {epoch}), first in {layer}; a \
         checkpoint from before, if there is one, is kept. Try a learning rate below {learning_rate}"
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
    /// There are fewer images than a batch of views takes.
    #[error("{}", too_few(*.images, *.batch_size))]
    TooFewToPretrain {
        /// Images to learn from.
        images: usize,
        /// Images in a batch.
        batch_size: u32,
    },
    /// Every pixel of each picture has the same value.
    #[error(
        "all {images} image(s) are flat: every pixel of a picture has the same value, so that there \
         is nothing to learn. Look at how they were exported, and at their windows"
    )]
    NothingToSee {
        /// Images looked at.
        images: usize,
    },
    /// The gate's test images cannot tell two backbones apart.
    #[error(
        "the gate cannot compare backbones: its {images} test image(s) are all of one class. Freeze \
         a version whose test split has at least two, or leave the gate out"
    )]
    CannotCompare {
        /// Test images of the gate.
        images: usize,
    },
    /// A batch of views does not fit into the memory.
    #[error(transparent)]
    BatchTooLarge(#[from] BatchTooLarge),
    /// candle and ONNX Runtime do not agree on what was trained.
    #[error(transparent)]
    Parity(#[from] ParityError),
    /// An objective that compares images was given too few of them.
    #[error(
        "{objective} compares the images of a batch and needs two of them; this batch has {images}"
    )]
    SmallBatch {
        /// The objective.
        objective: &'static str,
        /// Images in the batch.
        images: usize,
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
            Self::Host(_)
            | Self::Io(_)
            | Self::Inference(_)
            | Self::Parity(ParityError::Inference(_) | ParityError::Io(_)) => true,
            Self::Stopped(_)
            | Self::TooFewImages(_)
            | Self::Probe(_)
            | Self::CannotJudge(_)
            | Self::Image { .. }
            | Self::Tensor(_)
            | Self::Weights(_)
            | Self::Onnx(_)
            | Self::Diverged { .. }
            | Self::TooFewToPretrain { .. }
            | Self::NothingToSee { .. }
            | Self::CannotCompare { .. }
            | Self::BatchTooLarge(_)
            | Self::Parity(ParityError::Beyond { .. } | ParityError::Tensor(_))
            | Self::SmallBatch { .. }
            | Self::TooLarge(_)
            | Self::NothingRecorded => false,
        }
    }
}

fn too_few(images: usize, batch_size: u32) -> String {
    match images {
        0 => {
            "there is no image to learn from: the version is empty, or all of its images are in a \
              test split; add images to the dataset and freeze another version"
                .to_owned()
        }
        1 => "one image alone cannot be told from others: add images to the dataset and freeze \
              another version"
            .to_owned(),
        _ => format!(
            "{images} images make no batch of {batch_size}: set `learning.batch_size` to {images} or \
             less, or add images"
        ),
    }
}
