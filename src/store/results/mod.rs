//! Rows of what runs publish: models, backbones and predictions.

pub mod backbones;
pub mod models;
pub mod predictions;
