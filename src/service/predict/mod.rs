//! Answers for pictures: a model's classes, a backbone's embeddings.

mod error;
mod pictures;
mod predictor;

pub use error::PredictError;
pub use pictures::Sent;
pub use predictor::{Answer, Network, Predictor, Queued, predictions};
