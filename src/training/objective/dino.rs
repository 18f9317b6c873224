//! DINO: the student predicts, from any view, what the teacher makes of a large one.
//!
//! Caron et al., "Emerging Properties in Self-Supervised Vision Transformers", 2021, section 3.

use candle_core::{D, Device, Tensor};

use super::projector::{Between, Projector};
use super::scored::{Moment, Objective, Scored, mismatch, number, sum};
use super::views::Shown;
use crate::domain::pretrain::Dino;
use crate::nn::kernel::draw::normal;
use crate::nn::loss::log_softmax;
use crate::nn::ops::{softmax, unit};
use crate::nn::{Params, Tensors};
use crate::training::data::generator;
use crate::training::run::error::TrainingError;

const CENTRE: &str = "objective.centre";
/// Directions of the prototypes, `[K, bottleneck]`; their lengths are left out of the computation.
const PROTOTYPES: &str = "objective.prototypes.weight";

/// The objective, its head and its centre.
#[derive(Debug)]
pub(super) struct Distillation {
    settings: Dino,
    /// Three layers that end in the bottleneck (appendix C).
    head: Projector,
    /// `[K]`; zeros before the first step.
    centre: Option<Tensor>,
}

impl Distillation {
    pub(super) fn new(settings: &Dino) -> Self {
        let widths = [settings.hidden, settings.hidden, settings.bottleneck];
        let head = Projector::new("objective.head", &widths, Between::Gelu);
        Self { settings: settings.clone(), head, centre: None }
    }

    /// `g(h)`, `[B, K]`: the head, a vector of length one, and the product with prototypes of length
    /// one (a weight-normalised layer whose lengths stay at 1).
    fn logits(&self, params: &Params, embedding: &Tensor) -> candle_core::Result<Tensor> {
        let bottleneck = unit(&self.head.forward(params, embedding)?)?;
        bottleneck.matmul(&unit(&params.tensor(PROTOTYPES)?)?.t()?)
    }

    /// Eq. 4, `c ← m c + (1 − m) 1/B Σ_i g_θt(x_i)`, over the teacher's outputs of both views.
    fn follow(&mut self, centre: &Tensor, outputs: &[Tensor; 2]) -> candle_core::Result<()> {
        let m = self.settings.centre_momentum;
        let mean = Tensor::cat(&[&outputs[0], &outputs[1]], 0)?.mean(0)?;
        self.centre = Some(((centre * m)? + (mean * (1.0 - m))?)?.detach());
        Ok(())
    }
}

impl Objective for Distillation {
    fn initial(&self, seed: u64, embedding: usize, _map: usize) -> Result<Tensors, TrainingError> {
        let mut tensors = Tensors::new();
        let mut random = generator("dino", seed, 0, 0);
        self.head.initial(&mut random, embedding, &mut tensors)?;
        let shape = (self.settings.output as usize, self.settings.bottleneck as usize);
        let directions = normal(&mut random, shape.0 * shape.1, 1.0 / (shape.1 as f64).sqrt());
        let directions = Tensor::from_vec(directions, shape, &Device::Cpu)?;
        tensors.insert(PROTOTYPES.to_owned(), directions);
        Ok(tensors)
    }

    /// From `momentum` to 1 along half a cosine (section 3.1, "Teacher network").
    fn teacher_momentum(&self, moment: Moment) -> Option<f64> {
        let share = moment.step as f64 / moment.steps.max(1) as f64;
        let rest = (1.0 - self.settings.momentum)
            * f64::midpoint(1.0, (std::f64::consts::PI * share).cos());
        Some(1.0 - rest)
    }

    /// The teacher is the better of the two throughout training (section 5.2, "Analyzing the training
    /// dynamic").
    fn publishes_teacher(&self) -> bool {
        true
    }

    /// Eq. 3, `Σ_{x ∈ large} Σ_{x' ≠ x} H(P_t(x), P_s(x'))` divided by the number of pairs, where
    /// `P_s = softmax(g / τ_s)` (Eq. 1) and `P_t = softmax((g − c) / τ_t)` (section 3.1, "Avoiding
    /// collapse"). Small crops go through the student alone. The centre moves afterwards.
    fn loss(
        &mut self,
        params: &Params,
        teacher: Option<&Params>,
        shown: &Shown<'_>,
        _moment: Moment,
    ) -> Result<Scored, TrainingError> {
        let images = shown.large()?.0.features.embedding.dim(0)? as f64;
        let (teacher, seen) = shown.taught(teacher)?;
        let teach = |of: &Tensor| -> candle_core::Result<Tensor> {
            Ok(self.logits(teacher, &of.detach())?.detach())
        };
        let outputs = [teach(&seen[0])?, teach(&seen[1])?];
        let centre = match &self.centre {
            Some(centre) => centre.to_dtype(outputs[0].dtype())?.to_device(outputs[0].device())?,
            None => outputs[0].zeros_like()?.narrow(0, 0, 1)?.squeeze(0)?,
        };
        let sharpen = |output: &Tensor| {
            softmax(&(output.broadcast_sub(&centre)? / self.settings.teacher_temperature)?)
        };
        let targets = [sharpen(&outputs[0])?, sharpen(&outputs[1])?];
        let pairs = 2.0 * (shown.views.len() as f64 - 1.0);
        let mut parts = Vec::new();
        for (at, view) in shown.views.iter().enumerate() {
            let logits = self.logits(params, &view.features.embedding)?;
            let log_p = log_softmax(&(logits / self.settings.temperature)?)?;
            // What the view has to predict: the large ones but itself.
            let target = match at {
                0 => targets[1].clone(),
                1 => targets[0].clone(),
                _ => (&targets[0] + &targets[1])?,
            };
            parts.push((-1.0 / (images * pairs), (target * log_p)?.sum_all()?));
        }
        let entropy = entropy(&targets)?;
        self.follow(&centre, &outputs)?;
        Ok(Scored { loss: sum(parts)?, series: vec![("teacher_entropy", entropy)] })
    }

    fn state(&self) -> Result<Tensors, TrainingError> {
        let mut state = Tensors::new();
        if let Some(centre) = &self.centre {
            state.insert(CENTRE.to_owned(), centre.to_device(&Device::Cpu)?.copy()?);
        }
        Ok(state)
    }

    fn restore(&mut self, state: &Tensors) -> Result<(), TrainingError> {
        let size = self.settings.output as usize;
        self.centre = match state.get(CENTRE) {
            None => None,
            Some(centre) if centre.dims() == [size] => Some(centre.copy()?.detach()),
            Some(centre) => return Err(mismatch(CENTRE, centre, &[size])),
        };
        Ok(())
    }
}

/// Mean entropy of the teacher's distributions: 0 when each image has one prototype for itself,
/// `ln K` when all are alike. Either, for every image, is a collapse.
fn entropy(targets: &[Tensor; 2]) -> candle_core::Result<f64> {
    let p = Tensor::cat(targets, 0)?;
    let logs = (&p + f64::from(f32::MIN_POSITIVE))?.log()?;
    number(&(p * logs)?.sum(D::Minus1)?.mean_all()?.neg()?)
}
