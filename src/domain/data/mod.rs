//! What is learnt from: datasets, their images, and how these are received and split.

pub mod dataset;
pub mod image;
pub mod patients;
pub mod receipt;
pub mod split;
pub mod target;
pub mod task;
