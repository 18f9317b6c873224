//! SimCLR: each view finds the other view of its image among all views of the batch.
//!
//! Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations", 2020. Small
//! crops are not part of the method and are left out.

use candle_core::Tensor;

use super::contrast::contrast;
use super::projector::{Between, Projector};
use super::scored::{Moment, Objective, Scored};
use super::views::Shown;
use crate::domain::pretrain::SimClr;
use crate::nn::ops::unit;
use crate::nn::{Params, Tensors};
use crate::training::data::generator;
use crate::training::run::error::TrainingError;

/// Added to the similarity of a view with itself, which no softmax counts.
const NEVER: f64 = -1e9;

/// The objective with its projector `g(h) = W⁽²⁾ ReLU(W⁽¹⁾h)` (section 2.1), with biases.
#[derive(Debug)]
pub(super) struct Contrastive {
    projector: Projector,
    temperature: f64,
}

impl Contrastive {
    pub(super) fn new(settings: &SimClr) -> Self {
        let widths = [settings.hidden, settings.output];
        let projector = Projector::new("objective.projector", &widths, Between::Relu);
        Self { projector, temperature: settings.temperature }
    }
}

impl Objective for Contrastive {
    fn initial(&self, seed: u64, embedding: usize, _map: usize) -> Result<Tensors, TrainingError> {
        let mut tensors = Tensors::new();
        let mut random = generator("simclr", seed, 0, 0);
        self.projector.initial(&mut random, embedding, &mut tensors)?;
        Ok(tensors)
    }

    /// The mean over all 2B views of Eq. 1,
    /// `ℓ(i, j) = −log exp(sim(z_i, z_j) / τ) / Σ_{k≠i} exp(sim(z_i, z_k) / τ)`, where j is the other
    /// view of the image.
    fn loss(
        &mut self,
        params: &Params,
        _teacher: Option<&Params>,
        shown: &Shown<'_>,
        _moment: Moment,
    ) -> Result<Scored, TrainingError> {
        let images = shown.several("simclr")?;
        let (first, second) = shown.large()?;
        let embeddings = Tensor::cat(&[&first.features.embedding, &second.features.embedding], 0)?;
        let z = unit(&self.projector.forward(params, &embeddings)?)?;
        let itself = Tensor::eye(2 * images, z.dtype(), z.device())?;
        let logits = ((z.matmul(&z.t()?)? / self.temperature)? + (itself * NEVER)?)?;
        let own: Vec<u32> = (0..2 * images).map(|i| ((i + images) % (2 * images)) as u32).collect();
        let (loss, found) = contrast(&logits, &own)?;
        Ok(Scored { loss, series: vec![("contrast_accuracy", found)] })
    }
}
