//! The trait of every objective: a loss of views, when it is computed, and what it remembers.

use candle_core::{DType, Tensor};

use super::views::{MatchedPair, Shown};
use crate::nn::{Params, Tensors};
use crate::training::run::error::TrainingError;

/// The moment at which a loss is computed: every random draw of an objective depends on this and on
/// nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Seed of the run.
    pub seed: u64,
    /// Steps of the optimiser before this one.
    pub step: u64,
    /// Steps of the whole run.
    pub steps: u64,
    /// Number of the batch within its step.
    pub part: u32,
}

/// A loss with what is worth watching.
#[derive(Debug)]
pub struct Scored {
    /// The loss, a scalar; its backward pass reaches features and parameters.
    pub loss: Tensor,
    /// Further curves: name and value.
    pub series: Vec<(&'static str, f64)>,
}

/// A self-supervised objective.
///
/// Its parameters live beside the backbone's in one [`Params`]; their names begin with
/// `objective.`, so that they are told apart when the backbone is published.
pub trait Objective: Send {
    /// Its parameters before the first step, drawn from `seed`; `embedding` and `map` are the
    /// channels of [`crate::nn::Features`].
    fn initial(&self, seed: u64, embedding: usize, map: usize) -> Result<Tensors, TrainingError>;

    /// Share of itself that the teacher (a copy of backbone and objective that follows slowly) keeps
    /// at this step; none where the method has no teacher.
    fn teacher_momentum(&self, moment: Moment) -> Option<f64> {
        let _ = moment;
        None
    }

    /// Whether the teacher is what is judged and published, not the network that it follows.
    fn publishes_teacher(&self) -> bool {
        false
    }

    /// The loss of a batch. `teacher` has the teacher's parameters, where there is one.
    fn loss(
        &mut self,
        params: &Params,
        teacher: Option<&Params>,
        shown: &Shown<'_>,
        moment: Moment,
    ) -> Result<Scored, TrainingError>;

    /// Curves of the newest batch that only its backward pass knows, name and value: to be asked
    /// for after the gradients of its loss were taken.
    fn after_backward(&self) -> Vec<(&'static str, f64)> {
        Vec::new()
    }

    /// The tensors that it remembers beside parameters (a queue, a centre), for checkpoints.
    fn state(&self) -> Result<Tensors, TrainingError> {
        Ok(Tensors::new())
    }

    /// Goes on from what it remembered.
    fn restore(&mut self, state: &Tensors) -> Result<(), TrainingError> {
        let _ = state;
        Ok(())
    }

    /// The matched pairs of the newest batch, where the method matches graphs.
    fn matched(&self) -> Option<MatchedPair> {
        None
    }
}

/// The value of a scalar.
pub(super) fn number(tensor: &Tensor) -> candle_core::Result<f64> {
    tensor.to_dtype(DType::F64)?.to_scalar()
}

/// A weighted sum of scalars.
pub(super) fn sum(parts: Vec<(f64, Tensor)>) -> candle_core::Result<Tensor> {
    let mut sum: Option<Tensor> = None;
    for (weight, part) in parts {
        let weighed = (part * weight)?;
        sum = Some(match sum {
            None => weighed,
            Some(sum) => (sum + weighed)?,
        });
    }
    sum.ok_or_else(|| candle_core::Error::Msg("there is nothing to add up".to_owned()))
}

/// A remembered tensor that does not fit the settings.
pub(super) fn mismatch(name: &str, found: &Tensor, expected: &[usize]) -> TrainingError {
    let text = format!("the checkpoint's {name} is {:?}, not {expected:?}", found.dims());
    candle_core::Error::Msg(text).into()
}
