//! The reasons why a backbone was not imported.

use crate::decode::Breach;
use crate::domain::backbone::BadPreprocessing;
use crate::inference::ParityError;
use crate::nn::weights::WeightsError;
use crate::onnx::OnnxError;
use crate::store::StoreError;

/// The reason why a backbone was not imported. Nothing is stored then.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The checkpoint cannot be used.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The preprocessing cannot be used.
    #[error(transparent)]
    Preprocessing(#[from] BadPreprocessing),
    /// A text is missing or too long.
    #[error("`{field}` must have 1 to {max} bytes; it has {found}")]
    Text {
        /// The field.
        field: &'static str,
        /// Bytes found.
        found: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// candle and ONNX Runtime disagree on these weights, or could not be compared.
    #[error(transparent)]
    Parity(#[from] ParityError),
    /// The graph could not be written.
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    /// It could not be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The checkpoint broke the process that read it.
    #[error("the checkpoint {0}")]
    Breach(#[from] Breach),
    /// The work itself broke.
    #[error("the import failed: {0}")]
    Failed(String),
}
