//! The subject of an ONNX file: a network of an architecture, with or without a classifier.

use std::collections::BTreeMap;

use candle_core::Tensor;

use crate::nn::{Architecture, Tensors};

/// The one input: prepared pictures `[batch, 3, size, size]`.
pub const INPUT: &str = "images";

/// A linear classifier on the embedding.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// `[K, D]`.
    pub weight: &'a Tensor,
    /// `[K]`.
    pub bias: &'a Tensor,
}

/// The subject that is written.
#[derive(Debug, Clone, Copy)]
pub struct Export<'a> {
    /// The architecture.
    pub architecture: Architecture,
    /// Its tensors, by the names of [`Architecture::tensors`].
    pub tensors: &'a Tensors,
    /// Side of the square input in pixels.
    pub size: u32,
    /// The classifier, if there is one.
    pub head: Option<Head<'a>>,
    /// Text properties of the file.
    pub metadata: &'a BTreeMap<String, String>,
}
