//! Linear layers from candle's own operators, for devices and networks that there are no kernels for.

use candle_core::{Result, Tensor};

use super::parameters::{Layer, LowRank};

/// A layer with what is added to its weight, along the last dimension.
pub(in crate::nn) fn layer(
    layer: &Layer,
    low_rank: Option<&LowRank>,
    x: &Tensor,
) -> Result<Tensor> {
    let weight = match low_rank {
        None => layer.weight.tensor.clone(),
        Some(low_rank) => (&layer.weight.tensor + low_rank.composed()?)?,
    };
    affine(x, &weight, &layer.bias.tensor)
}

/// `x Wᵀ + b` along the last dimension.
pub(in crate::nn) fn affine(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let mut dims = x.dims().to_vec();
    let inputs = dims.pop().unwrap_or_default();
    dims.push(bias.elem_count());
    let rows = x.reshape(((), inputs))?;
    rows.matmul(&weight.t()?)?.broadcast_add(bias)?.reshape(dims)
}

impl LowRank {
    /// The values that are added to the weight of the layer, zeros between its parts.
    pub(in crate::nn) fn composed(&self) -> Result<Tensor> {
        let (rank, parts) = (self.up.tensor.dim(1)?, self.parts.len());
        let size = self.up.tensor.dim(0)? / parts;
        let mut rows = Vec::new();
        for (number, part) in self.parts.iter().enumerate() {
            while rows.len() < *part {
                let shape = (size, self.down.tensor.dim(1)?);
                rows.push(Tensor::zeros(shape, self.up.tensor.dtype(), self.up.tensor.device())?);
            }
            let up = self.up.tensor.narrow(0, number * size, size)?;
            let down = self.down.tensor.narrow(0, number * rank, rank)?;
            rows.push((up.contiguous()?.matmul(&down.contiguous()?)? * self.scale)?);
        }
        Tensor::cat(&rows, 0)
    }
}
