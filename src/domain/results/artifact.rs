//! A file that a run publishes.

use serde::{Deserialize, Serialize};

use crate::domain::words::digest::Sha256;

/// A downloadable file of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Artifact {
    /// File name: `model.safetensors`, `model.onnx`, `card.md` or `config.json`.
    pub name: String,
    /// Media type.
    pub media_type: String,
    /// Size.
    pub size_bytes: u64,
    /// SHA-256 of the content, also its key in the blob store.
    pub sha256: Sha256,
}
