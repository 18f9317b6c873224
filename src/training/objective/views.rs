//! The views of a batch as an objective is shown them, and the pairs that it matched.

use candle_core::{Tensor, bail};

use crate::nn::{Features, Params};
use crate::training::run::error::TrainingError;

/// The place of a crop in the picture it was cut from, in pixels of that picture.
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
    /// The place from which each of the B crops was cut.
    pub crops: Vec<Crop>,
}

/// The views of a batch: two large ones first, then the small crops.
#[derive(Debug)]
pub struct Shown<'a> {
    /// The output of the network in training for the views.
    pub views: &'a [View],
    /// Embeddings `[B, D]` of the two large views by the teacher, where the objective has one.
    pub teacher: Option<&'a [Tensor; 2]>,
}

impl<'a> Shown<'a> {
    /// The two large views.
    pub(super) fn large(&self) -> candle_core::Result<(&'a View, &'a View)> {
        match self.views {
            [first, second, ..] => Ok((first, second)),
            _ => bail!("an objective needs two views; there are {}", self.views.len()),
        }
    }

    /// The number of images that the batch has; two or more, for an objective that compares them.
    pub(super) fn several(&self, objective: &'static str) -> Result<usize, TrainingError> {
        let images = self.large()?.0.features.embedding.dim(0)?;
        if images < 2 {
            return Err(TrainingError::SmallBatch { objective, images });
        }
        Ok(images)
    }

    /// The teacher's parameters and its embeddings, for an objective that has a teacher.
    pub(super) fn taught<'t>(
        &self,
        teacher: Option<&'t Params>,
    ) -> candle_core::Result<(&'t Params, &'a [Tensor; 2])> {
        match (teacher, self.teacher) {
            (Some(params), Some(embeddings)) => Ok((params, embeddings)),
            _ => bail!("an objective with a teacher was computed without one"),
        }
    }
}

/// One matched pair of graphs of a batch, for people to look at.
#[derive(Debug, Clone, PartialEq)]
pub struct MatchedPair {
    /// The images of the batch that are the nodes, in order.
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
