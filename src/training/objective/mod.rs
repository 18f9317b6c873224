//! What pretraining learns from the views of a batch, as one trait with a method for each paper.

mod barlow;
mod choices;
mod contrast;
mod correlation;
mod dino;
mod matching;
mod moco;
mod nearest;
mod position;
mod projector;
mod simclr;
mod vic;
mod vicregl;

pub use matching::GraphMatching;

use candle_core::{DType, Tensor, bail};

use super::error::TrainingError;
use crate::domain::pretrain;
use crate::nn::{Features, Params, Tensors};

/// The objective of a recipe, for a run over `images` images.
pub fn objective(spec: &pretrain::Objective, images: usize) -> Box<dyn Objective> {
    match spec {
        pretrain::Objective::Matching(settings) => Box::new(GraphMatching::new(settings.clone())),
        pretrain::Objective::Simclr(settings) => Box::new(simclr::Contrastive::new(settings)),
        pretrain::Objective::BarlowTwins(settings) => Box::new(barlow::Twins::new(settings)),
        pretrain::Objective::Vicregl(settings) => Box::new(vicregl::Local::new(settings)),
        pretrain::Objective::MocoV2(settings) => Box::new(moco::Queued::new(settings, images)),
        pretrain::Objective::Dino(settings) => Box::new(dino::Distillation::new(settings)),
    }
}

/// Where a crop lies in the picture it was cut from, in pixels of that picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Crop {
    /// First row.
    pub top: f32,
    /// First column.
    pub left: f32,
    /// Rows.
    pub height: f32,
    /// Columns.
    pub width: f32,
    /// Whether it was mirrored left to right after it was cut.
    pub flipped: bool,
}

/// One view of every image of a batch, and what the backbone makes of it.
#[derive(Debug, Clone)]
pub struct View {
    /// Embedding `[B, D]` and feature map `[B, C, R, S]`.
    pub features: Features,
    /// Where each of the B crops was cut.
    pub crops: Vec<Crop>,
}

/// The views of a batch: two large ones first, then the small crops.
#[derive(Debug)]
pub struct Shown<'a> {
    /// What the network in training makes of the views.
    pub views: &'a [View],
    /// Embeddings `[B, D]` of the two large views by the teacher, where the objective has one.
    pub teacher: Option<&'a [Tensor; 2]>,
}

impl<'a> Shown<'a> {
    /// The two large views.
    fn large(&self) -> candle_core::Result<(&'a View, &'a View)> {
        match self.views {
            [first, second, ..] => Ok((first, second)),
            _ => bail!("an objective needs two views; there are {}", self.views.len()),
        }
    }

    /// How many images the batch has; two or more, for an objective that compares them.
    fn several(&self, objective: &'static str) -> Result<usize, TrainingError> {
        let images = self.large()?.0.features.embedding.dim(0)?;
        if images < 2 {
            return Err(TrainingError::SmallBatch { objective, images });
        }
        Ok(images)
    }

    /// The teacher's parameters and its embeddings, for an objective that has a teacher.
    fn taught<'t>(
        &self,
        teacher: Option<&'t Params>,
    ) -> candle_core::Result<(&'t Params, &'a [Tensor; 2])> {
        match (teacher, self.teacher) {
            (Some(params), Some(embeddings)) => Ok((params, embeddings)),
            _ => bail!("an objective with a teacher was computed without one"),
        }
    }
}

/// When a loss is computed: every random draw of an objective depends on this and on nothing else.
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
    /// The loss, a scalar with a way back to features and parameters.
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
    /// channels of [`Features`].
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

    /// What it remembers beside parameters (a queue, a centre), for checkpoints.
    fn state(&self) -> Result<Tensors, TrainingError> {
        Ok(Tensors::new())
    }

    /// Goes on from what it remembered.
    fn restore(&mut self, state: &Tensors) -> Result<(), TrainingError> {
        let _ = state;
        Ok(())
    }

    /// How the pairs of the newest batch were matched, where the method matches graphs.
    fn matched(&self) -> Option<MatchedPair> {
        None
    }
}

/// One matched pair of graphs of a batch, for people to look at.
#[derive(Debug, Clone, PartialEq)]
pub struct MatchedPair {
    /// Which images of the batch are the nodes, in order.
    pub images: Vec<usize>,
    /// Partner of each node of the first view among those of the second; node i belongs to node i.
    pub partners: Vec<Option<usize>>,
    /// Affinity of every pair of nodes, rows for the first view, without noise.
    pub affinity: Vec<Vec<f32>>,
    /// Directed edges of the first view's graph.
    pub first_edges: Vec<(usize, usize)>,
    /// Directed edges of the second view's graph.
    pub second_edges: Vec<(usize, usize)>,
}

/// The value of a scalar.
fn number(tensor: &Tensor) -> candle_core::Result<f64> {
    tensor.to_dtype(DType::F64)?.to_scalar()
}

/// A weighted sum of scalars.
fn sum(parts: Vec<(f64, Tensor)>) -> candle_core::Result<Tensor> {
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
fn mismatch(name: &str, found: &Tensor, expected: &[usize]) -> TrainingError {
    let text = format!("the checkpoint's {name} is {:?}, not {expected:?}", found.dims());
    candle_core::Error::Msg(text).into()
}
