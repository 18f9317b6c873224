//! The result of a pretraining run before it is published.

use super::job::LeftOut;
use super::state::Position;
use crate::domain::pretrain::Comparison;
use crate::nn::Tensors;

/// The result of a run.
pub(super) struct Made {
    /// The tensors of the backbone.
    pub(super) tensors: Tensors,
    pub(super) position: Position,
    pub(super) comparison: Option<Comparison>,
    /// Pictures that were learnt from.
    pub(super) images: usize,
    pub(super) left_out: LeftOut,
}
