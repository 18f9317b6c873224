//! A network over its parameters, cut where training begins.

use std::fmt::Debug;

use candle_core::{Result, Tensor};

use crate::nn::tape::gradients::Gradients;
use crate::nn::tape::pass::{Features, Mode, Pass};

/// The way in which a batch goes through a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// The pass: with a backward pass after it, or without one.
    pub pass: Pass,
    /// The statistics that batch normalisation uses.
    pub mode: Mode,
}

/// A network of any family over parameters that it shares.
pub trait Network: Debug + Send + Sync {
    /// The input of the last `stages` stages for a batch of pictures `[N, 3, H, W]`.
    fn trunk(&self, images: &Tensor, stages: usize, way: Way) -> Result<Tensor>;

    /// Features from what enters the last `stages` stages.
    fn tail(&self, activations: &Tensor, stages: usize, way: Way) -> Result<Features>;

    /// Gradients of parameters that candle's graph does not know, since they were last taken.
    fn take_gradients(&self) -> Gradients;
}
