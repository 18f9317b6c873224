//! The way in which a batch goes through a network, and what comes out of it.

use candle_core::Tensor;

/// The statistics that batch normalisation uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Those of the batch; the running ones follow.
    Train,
    /// The running ones, unchanged; gradients flow all the same.
    Frozen,
}

/// The purpose of a forward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// A backward pass follows: what it needs is kept.
    Training,
    /// None follows: everything is freed as soon as it was read, and the result is not part of a graph.
    Inference,
}

/// The outputs of a backbone for a batch.
#[derive(Debug, Clone)]
pub struct Features {
    /// One vector a picture, `[N, D]`: what a head tells classes from.
    pub embedding: Tensor,
    /// The last map, `[N, C, H / s, W / s]`, with the architecture's channels `C` and stride `s`.
    pub feature_map: Tensor,
}
