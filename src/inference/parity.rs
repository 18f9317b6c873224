//! The agreement of candle, which trains, and ONNX Runtime, which serves, on a network.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{InferenceError, Runtime};
use crate::domain::Architecture;
use crate::domain::backbone::Parity;
use crate::nn::trace::without_trace;
use crate::nn::{Encoder, Params, Tensors};

/// The largest relative difference that is accepted.
const BOUND: f64 = 1e-3;
/// Pictures that are compared.
const IMAGES: usize = 2;

/// The reason why a network is not to be served.
#[derive(Debug, thiserror::Error)]
pub enum ParityError {
    /// candle and ONNX Runtime disagree on these weights.
    #[error(
        "candle and ONNX Runtime differ by {found:.2e} relative on these weights; the bound is \
         {bound:.0e}"
    )]
    Beyond {
        /// The difference found.
        found: f64,
        /// The bound.
        bound: f64,
    },
    /// candle could not compute it.
    #[error("a tensor could not be handled: {}", without_trace(&.0.to_string()))]
    Tensor(#[from] candle_core::Error),
    /// ONNX Runtime could not.
    #[error(transparent)]
    Inference(#[from] InferenceError),
    /// The file could not be written for it.
    #[error("a temporary file failed: {0}")]
    Io(#[from] std::io::Error),
}

/// A network in both forms.
#[derive(Debug, Clone, Copy)]
pub struct Twins<'a> {
    /// The architecture.
    pub architecture: Architecture,
    /// Its tensors.
    pub tensors: &'a Tensors,
    /// Its ONNX file.
    pub onnx: &'a [u8],
    /// Side of its square input in pixels.
    pub size: u32,
}

/// Runs two random pictures through candle and through ONNX Runtime on `threads` threads; the file
/// lies in `scratch` meanwhile.
pub fn parity(
    twins: &Twins<'_>,
    runtime: &Runtime,
    scratch: &Path,
    threads: usize,
) -> Result<Parity, ParityError> {
    let side = twins.size as usize;
    let mut random = StdRng::seed_from_u64(0);
    let count = IMAGES * 3 * side * side;
    let input: Vec<f32> = (0..count).map(|_| random.random_range(-2.0..2.0)).collect();
    let ours = features(twins, &input)?;
    let file = tempfile::NamedTempFile::new_in(scratch)?;
    std::fs::write(file.path(), twins.onnx)?;
    let mut network = runtime.open(file.path(), threads)?;
    let embedding = network.run(&input, IMAGES)?.embedding;
    let theirs = [embedding, network.feature_map(&input, IMAGES)?];
    let each = ours.iter().zip(&theirs).map(|(ours, theirs)| difference(ours, theirs));
    let found = each.fold(0.0, f64::max);
    if found <= BOUND {
        Ok(Parity { max_relative_difference: found, bound: BOUND })
    } else {
        Err(ParityError::Beyond { found, bound: BOUND })
    }
}

/// The largest difference over the largest value; infinite when it cannot be told.
fn difference(ours: &[f32], theirs: &[f32]) -> f64 {
    let largest = ours.iter().fold(f32::MIN_POSITIVE, |largest, value| largest.max(value.abs()));
    let pairs = ours.iter().zip(theirs);
    let most = pairs.clone().fold(0.0_f32, |most, (one, other)| most.max((one - other).abs()));
    // `max` passes over what is not a number.
    let is_told = ours.len() == theirs.len() && pairs.into_iter().all(|(a, b)| (a - b).is_finite());
    if is_told { f64::from(most) / f64::from(largest) } else { f64::INFINITY }
}

/// The embedding and the last feature map by candle.
fn features(twins: &Twins<'_>, input: &[f32]) -> candle_core::Result<[Vec<f32>; 2]> {
    let side = twins.size as usize;
    let params = Params::new(twins.tensors, DType::F32, &Device::Cpu)?;
    let network = Encoder::new(twins.architecture, &params)?;
    let input = Tensor::from_slice(input, (IMAGES, 3, side, side), &Device::Cpu)?;
    let features = network.infer(&input)?;
    let flat = |tensor: &Tensor| tensor.flatten_all()?.to_vec1::<f32>();
    Ok([flat(&features.embedding)?, flat(&features.feature_map)?])
}
