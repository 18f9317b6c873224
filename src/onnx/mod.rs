//! ONNX files written from Rust: the messages, a graph builder, and the export of each architecture.

mod dinov2;
mod export;
mod graph;
mod operators;
mod proto;
mod resnet;
mod sam_vit;
mod subject;

use crate::nn::Architecture;
use crate::nn::trace::without_trace;
pub use export::export;
pub use subject::{Export, Head, INPUT};

/// Outputs of an exported file: the embedding `[batch, D]`.
pub const EMBEDDING: &str = "embedding";
/// Outputs of an exported file: the last feature map `[batch, C, H / s, W / s]`, with the
/// architecture's channels and stride.
pub const FEATURE_MAP: &str = "feature_map";
/// Outputs of an exported file with a head: class probabilities `[batch, K]`.
pub const PROBABILITIES: &str = "probabilities";

/// The reason why a file could not be written.
#[derive(Debug, thiserror::Error)]
pub enum OnnxError {
    /// Nothing here knows how networks of the family are written.
    #[error("there is no way to write {0} as ONNX")]
    UnknownFamily(Architecture),
    /// The weights lack a tensor of the architecture.
    #[error("the weights have no tensor {0}")]
    MissingTensor(String),
    /// A tensor could not be read.
    #[error("a tensor could not be read: {}", without_trace(&.0.to_string()))]
    Tensor(#[from] candle_core::Error),
    /// Protobuf allows two gigabytes.
    #[error("the file would have {0} bytes; an ONNX file holds at most 2147483647")]
    TooLarge(usize),
}
