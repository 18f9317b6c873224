//! The values of a tensor, in order, whatever its shape.

use candle_core::Tensor;

/// Those of a tensor of 32-bit floats.
pub(crate) fn floats(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().and_then(|flat| flat.to_vec1()).expect("32-bit floats")
}

/// Those of a tensor of 64-bit floats.
pub(crate) fn doubles(tensor: &Tensor) -> Vec<f64> {
    tensor.flatten_all().and_then(|flat| flat.to_vec1()).expect("64-bit floats")
}
