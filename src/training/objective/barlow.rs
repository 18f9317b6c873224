//! Barlow Twins: channels of two views of a batch agree with themselves and with no other.
//!
//! Zbontar et al., "Barlow Twins: Self-Supervised Learning via Redundancy Reduction", 2021. Small
//! crops are not part of the method and are left out.

use super::correlation::off_diagonal;
use super::projector::{Between, Projector, standardised};
use super::scored::{Moment, Objective, Scored, number};
use super::views::Shown;
use crate::domain::pretrain::Barlow;
use crate::nn::{Params, Tensors};
use crate::training::data::generator;
use crate::training::run::error::TrainingError;

/// The objective with its projector of three layers (section 2.2).
#[derive(Debug)]
pub(super) struct Twins {
    projector: Projector,
    redundancy: f64,
}

impl Twins {
    pub(super) fn new(settings: &Barlow) -> Self {
        let widths = [settings.hidden, settings.hidden, settings.output];
        let projector = Projector::new("objective.projector", &widths, Between::NormalisedRelu);
        Self { projector, redundancy: settings.redundancy }
    }
}

impl Objective for Twins {
    fn initial(&self, seed: u64, embedding: usize, _map: usize) -> Result<Tensors, TrainingError> {
        let mut tensors = Tensors::new();
        let mut random = generator("barlow", seed, 0, 0);
        self.projector.initial(&mut random, embedding, &mut tensors)?;
        Ok(tensors)
    }

    /// Eq. 1, `Σ_i (1 − C_ii)² + λ Σ_i Σ_{j≠i} C²_ij`, of the cross-correlation of Eq. 2,
    /// `C_ij = Σ_b z^A_bi z^B_bj / (√Σ_b (z^A_bi)² √Σ_b (z^B_bj)²)` with z of mean 0 over the batch.
    /// As in the authors' code, 10⁻⁵ is added to the variances, so that a channel that is the same
    /// for all images correlates with nothing.
    fn loss(
        &mut self,
        params: &Params,
        _teacher: Option<&Params>,
        shown: &Shown<'_>,
        _moment: Moment,
    ) -> Result<Scored, TrainingError> {
        let images = shown.several("barlow_twins")? as f64;
        let (first, second) = shown.large()?;
        let project = |embedding| standardised(&self.projector.forward(params, embedding)?);
        let a = project(&first.features.embedding)?;
        let b = project(&second.features.embedding)?;
        let diagonal = ((&a * &b)?.sum(0)? / images)?;
        let invariance = diagonal.affine(-1.0, 1.0)?.sqr()?.sum_all()?;
        let redundancy = (off_diagonal(&a, &b)? / (images * images))?;
        let loss = (&invariance + (&redundancy * self.redundancy)?)?;
        let series =
            vec![("invariance", number(&invariance)?), ("redundancy", number(&redundancy)?)];
        Ok(Scored { loss, series })
    }
}
