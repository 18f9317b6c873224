//! Our own weight files: safetensors with string metadata, equal content giving equal bytes.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{Device, Tensor};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use super::WeightsError;
use crate::nn::tape::params::Tensors;
use crate::nn::trace::brief;

/// The one key of our metadata.
const METADATA_KEY: &str = "lvmed";

/// The file's bytes: `tensors` as 32-bit floats in the order of their names.
pub fn to_bytes(
    tensors: &Tensors,
    metadata: &BTreeMap<String, String>,
) -> Result<Vec<u8>, WeightsError> {
    let mut raw = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let values = tensor.to_dtype(candle_core::DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        raw.push((name.clone(), tensor.dims().to_vec(), bytes));
    }
    let views = raw
        .iter()
        .map(|(name, shape, bytes)| {
            let view = TensorView::new(Dtype::F32, shape.clone(), bytes).map_err(unreadable)?;
            Ok((name.clone(), view))
        })
        .collect::<Result<Vec<_>, WeightsError>>()?;
    // The format's own writer sorts by name; metadata has one key at most in a fixed order, since
    // a hash map of several would be written in any order.
    let metadata = serde_json::to_string(metadata).map_err(unreadable)?;
    let metadata = HashMap::from([(METADATA_KEY.to_owned(), metadata)]);
    safetensors::serialize(views, Some(metadata)).map_err(unreadable)
}

/// Writes a weight file.
pub fn write(
    tensors: &Tensors,
    metadata: &BTreeMap<String, String>,
    path: &Path,
) -> Result<(), WeightsError> {
    let failed = |source| WeightsError::Io { path: path.to_owned(), source };
    std::fs::write(path, to_bytes(tensors, metadata)?).map_err(failed)
}

/// Reads a weight file back.
pub fn load(path: &Path) -> Result<Tensors, WeightsError> {
    let failed = |source| WeightsError::Io { path: path.to_owned(), source };
    load_bytes(&std::fs::read(path).map_err(failed)?)
}

/// Reads a weight file's bytes back; floats of any width become 32-bit ones.
pub fn load_bytes(bytes: &[u8]) -> Result<Tensors, WeightsError> {
    let file = SafeTensors::deserialize(bytes).map_err(unreadable)?;
    let mut tensors = Tensors::new();
    for (name, view) in file.tensors() {
        let dtype = match view.dtype() {
            Dtype::F32 => candle_core::DType::F32,
            Dtype::F64 => candle_core::DType::F64,
            Dtype::F16 => candle_core::DType::F16,
            Dtype::BF16 => candle_core::DType::BF16,
            // Counters; the importer drops them by name.
            Dtype::I64 => candle_core::DType::I64,
            other => {
                return Err(WeightsError::Unreadable(format!(
                    "tensor {name} is of type {other:?}"
                )));
            }
        };
        let tensor = Tensor::from_raw_buffer(view.data(), dtype, view.shape(), &Device::Cpu)?;
        let tensor = match dtype {
            candle_core::DType::I64 => tensor,
            _ => tensor.to_dtype(candle_core::DType::F32)?,
        };
        tensors.insert(name, tensor);
    }
    Ok(tensors)
}

/// The text metadata that [`to_bytes`] wrote; empty for files of others.
pub fn metadata_of(bytes: &[u8]) -> Result<BTreeMap<String, String>, WeightsError> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(unreadable)?;
    let text = header.metadata().as_ref().and_then(|metadata| metadata.get(METADATA_KEY));
    text.map_or(Ok(BTreeMap::new()), |text| serde_json::from_str(text).map_err(unreadable))
}

fn unreadable(error: impl std::fmt::Display) -> WeightsError {
    WeightsError::Unreadable(brief(&error.to_string()))
}
