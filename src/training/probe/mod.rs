//! Linear heads on frozen features: weights and biases fitted to a handful of images.
//!
//! How well a head ranks held-out patients' images and how sure it may be are two questions. A penalty
//! or a rule is chosen by the loss at the best temperature for it, so that one over-confident fold does
//! not outweigh all ranking, and the temperature is folded into the weights.

pub mod discriminant;
pub mod fit;
pub mod folds;
pub mod head;
pub mod lbfgs;
pub mod logistic;
pub mod matrix;
mod plain;
mod regression;
pub mod span;
pub mod standardise;
mod task;
pub mod temper;
mod tempered;
