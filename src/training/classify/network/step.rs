//! One step of training: the gradients of a batch, computed a part at a time and checked.

use candle_core::{DType, Tensor};

use super::learner::Learner;
use super::loss::SoftCrossEntropy;
use crate::nn::optim::clip_norm;
use crate::nn::{Gradients, Mode};
use crate::training::run::error::TrainingError;

/// Images as they enter the trained part, and what they should be called.
pub(super) struct Shown {
    /// `[N, …]`, what [`Learner::enter`] gives.
    pub(super) entered: Tensor,
    /// Shares of the classes, `[N, K]`.
    pub(super) targets: Tensor,
}

impl Shown {
    /// Number of images.
    pub(super) fn images(&self) -> usize {
        self.entered.dims().first().copied().unwrap_or(0)
    }

    fn part(&self, from: usize, images: usize) -> Result<Self, TrainingError> {
        let part = |tensor: &Tensor| tensor.narrow(0, from, images)?.contiguous();
        Ok(Self { entered: part(&self.entered)?, targets: part(&self.targets)? })
    }
}

/// The way in which the gradients of a batch are computed.
#[derive(Debug, Clone)]
pub(super) struct Way {
    /// The loss.
    pub(super) loss: SoftCrossEntropy,
    /// The statistics of normalisation.
    pub(super) mode: Mode,
    /// Images at a time.
    pub(super) micro_batch: usize,
    /// Largest norm of the gradients; 0 leaves them as they are.
    pub(super) clip_norm: f64,
}

/// The first place where a number is not finite.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct NotANumber {
    /// `loss`, or `gradient`.
    pub(super) what: &'static str,
    /// The parameter or stage.
    pub(super) layer: String,
}

/// The loss of a batch and its gradients, or where they stopped being numbers.
///
/// Each part of `micro_batch` images adds its share, so that the sums are those of the whole batch:
/// exactly where normalisation is frozen, while statistics of the batch are those of each part.
pub(super) fn gradients(
    learner: &Learner,
    shown: &Shown,
    way: &Way,
) -> Result<Result<(f64, Gradients), NotANumber>, TrainingError> {
    let images = shown.images();
    let whole = way.loss.weight_of(&shown.targets)?;
    let (mut total, mut sum) = (0.0, Gradients::default());
    let mut from = 0;
    while from < images {
        let size = way.micro_batch.max(1).min(images - from);
        let part = shown.part(from, size)?;
        let loss = way.loss.forward(&learner.logits(&part.entered, way.mode)?, &part.targets)?;
        let value = loss.to_dtype(DType::F64)?.to_scalar::<f64>()?;
        if !value.is_finite() {
            let layer = learner.first_non_finite(&part.entered)?;
            return Ok(Err(NotANumber { what: "loss", layer }));
        }
        let share = way.loss.weight_of(&part.targets)? / whole;
        let found = learner.backward(&loss)?;
        if size == images {
            (total, sum) = (value, found);
        } else {
            total += value * share;
            sum.accumulate(found, share)?;
        }
        from += size;
    }
    let norm = if way.clip_norm > 0.0 { clip_norm(&mut sum, way.clip_norm)? } else { sum.norm()? };
    if !norm.is_finite() {
        let layer = sum.first_not_finite()?.unwrap_or("all together").to_owned();
        return Ok(Err(NotANumber { what: "gradient", layer }));
    }
    Ok(Ok((total, sum)))
}
