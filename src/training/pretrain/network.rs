//! The network that learns, and the teacher that follows it slowly.
//!
//! All views of one size go through the network as one batch, as the authors of SwAV, DINO and
//! VICRegL have it: one pass, and statistics of normalisation over twice as many images. Of another
//! size they cannot be in one batch, so small crops are a second pass.

use candle_core::{DType, Device, Tensor};

use super::feed::{Batch, LARGE};
use super::job::Job;
use crate::domain::Architecture;
use crate::nn::{Encoder, Features, Gradients, Mode, Params, Tensors};
use crate::training::objective::View;
use crate::training::run::error::TrainingError;
use crate::training::run::numbers::first_non_finite;

/// Beginning of the names of the objective's parameters.
pub(super) const OBJECTIVE: &str = "objective.";

/// The network that learns, with the objective's parameters beside its own.
pub(super) struct Student {
    architecture: Architecture,
    pub(super) params: Params,
    pub(super) network: Encoder,
    mode: Mode,
}

impl Student {
    /// A network that starts from `tensors`, those of the objective among them.
    pub(super) fn new(job: &Job, tensors: &Tensors) -> Result<Self, TrainingError> {
        let params = Params::new(tensors, DType::F32, &Device::Cpu)?;
        let network = Encoder::new(job.architecture, &params)?;
        let mode = if job.spec.learning.frozen_statistics { Mode::Frozen } else { Mode::Train };
        Ok(Self { architecture: job.architecture, params, network, mode })
    }

    /// Features of every view, kept for a backward pass.
    pub(super) fn views(&self, batch: &Batch) -> Result<Vec<View>, TrainingError> {
        let images = batch.images();
        let mut features = Vec::with_capacity(batch.crops.len());
        for input in std::iter::once(&batch.large).chain(&batch.small) {
            let together = self.network.forward(input, self.mode)?;
            for view in 0..input.dim(0)? / images {
                features.push(Features {
                    embedding: together.embedding.narrow(0, view * images, images)?,
                    feature_map: together.feature_map.narrow(0, view * images, images)?,
                });
            }
        }
        let views = features.into_iter().zip(&batch.crops);
        Ok(views.map(|(features, crops)| View { features, crops: crops.clone() }).collect())
    }

    /// Gradients of a loss of these views.
    pub(super) fn backward(&self, loss: &Tensor) -> Result<Gradients, TrainingError> {
        Ok(self.network.backward(loss, &self.params)?)
    }

    /// Names the first place whose numbers are not finite when a batch has been computed to something
    /// that is not.
    pub(super) fn first_non_finite(&self, batch: &Batch) -> Result<String, TrainingError> {
        let network = Some((self.architecture, &self.network));
        let found = first_non_finite(&self.params, network, &batch.large)?;
        Ok(found.unwrap_or_else(|| "the objective".to_owned()))
    }
}

/// A copy of the network in training and of its objective that follows it slowly. Nothing is learnt
/// by gradients here; statistics of normalisation are its own, from what it is shown itself.
pub(super) struct Teacher {
    pub(super) params: Params,
    pub(super) network: Encoder,
    mode: Mode,
}

impl Teacher {
    /// A copy of the student as it is now.
    pub(super) fn of(student: &Student) -> Result<Self, TrainingError> {
        let mut params = Params::new(&student.params.snapshot()?, DType::F32, &Device::Cpu)?;
        params.train_only(|_| false);
        let network = Encoder::new(student.architecture, &params)?;
        Ok(Self { params, network, mode: student.mode })
    }

    /// Embeddings `[B, D]` of the two large views, without a backward pass.
    pub(super) fn embeddings(&self, batch: &Batch) -> Result<[Tensor; LARGE], TrainingError> {
        let both = match self.mode {
            Mode::Frozen => self.network.infer(&batch.large)?.embedding,
            Mode::Train => self.network.forward(&batch.large, self.mode)?.embedding.detach(),
        };
        let images = batch.images();
        let of = |view: usize| both.narrow(0, view * images, images)?.contiguous();
        Ok([of(0)?, of(1)?])
    }

    /// `t ← k t + (1 − k) θ` for every parameter that is trained, with the share `k` that it keeps.
    pub(super) fn follow(&self, student: &Student, keep: f64) -> Result<(), TrainingError> {
        for (name, variable) in student.params.trainable() {
            let own = self.params.get(name)?;
            let next = ((own.as_detached_tensor() * keep)?
                + (variable.as_detached_tensor() * (1.0 - keep))?)?;
            own.set(&next)?;
        }
        Ok(())
    }
}

/// The tensors of the backbone alone, without those of the objective.
pub(super) fn backbone(params: &Params) -> Result<Tensors, TrainingError> {
    let mut all = params.snapshot()?;
    all.retain(|name, _| !name.starts_with(OBJECTIVE));
    Ok(all)
}
