//! Training a network by gradients to tell classes apart: what is trained, on which batches, and how far.

pub(in crate::training) mod calibrate;
pub(in crate::training::classify) mod learner;
mod loss;
mod source;
mod state;
mod step;
mod task;
pub(in crate::training::classify) mod train;
