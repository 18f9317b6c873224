//! What comes of a run: backbones, models, their evaluation and their artifacts.

mod artifact;
pub mod backbone;
pub mod evaluation;
pub mod model;
