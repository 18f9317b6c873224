//! Contrast of what belongs together with what does not: cross-entropy over similarities.

use candle_core::{D, DType, Result, Tensor};

use crate::nn::loss::cross_entropy;

/// Mean over the rows of `−log softmax(logits)` at the column that belongs to each, and the share of
/// rows for which that column is the largest.
pub(super) fn contrast(logits: &Tensor, own: &[u32]) -> Result<(Tensor, f64)> {
    let loss = cross_entropy(logits, own)?;
    let own = Tensor::new(own, logits.device())?;
    let right = logits.detach().argmax(D::Minus1)?.eq(&own)?;
    let share = right.to_dtype(DType::F64)?.mean_all()?.to_scalar()?;
    Ok((loss, share))
}
