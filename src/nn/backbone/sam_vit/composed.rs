//! A block from candle's own operators, for devices that there are no kernels for.

use candle_core::{Result, Tensor};

use super::layout::Layout;
use super::parameters::Block;
use crate::nn::layer::attention;
use crate::nn::layer::attention::Resize;
use crate::nn::layer::layer_norm::TRANSFORMER_EPSILON as EPSILON;
use crate::nn::layer::linear::composed::layer;
use crate::nn::layer::linear::parameters::Layer;
use crate::nn::layer::{gelu, layer_norm};

impl Block {
    /// The block on tokens `[N, H, W, D]`; see [`Self::forward`].
    pub(super) fn composed(&self, layout: &Layout, tokens: &Tensor) -> Result<Tensor> {
        let normal = norm(&self.norm1, tokens)?;
        let middle = (tokens + self.attend(layout, &normal)?)?;
        let hidden = layer(&self.lin1, None, &norm(&self.norm2, &middle)?)?;
        &middle + layer(&self.lin2, None, &gelu::composed(&hidden)?)?
    }

    fn attend(&self, layout: &Layout, normal: &Tensor) -> Result<Tensor> {
        let (images, rows, columns, channels) = normal.dims4()?;
        let (height, width) =
            if self.is_global { (rows, columns) } else { (layout.window, layout.window) };
        let (down, across) = (rows.div_ceil(height), columns.div_ceil(width));
        // Windows at the border are filled up with zeros after the normalisation.
        let padded = normal.pad_with_zeros(1, 0, down * height - rows)?.pad_with_zeros(
            2,
            0,
            across * width - columns,
        )?;
        let windows = padded
            .reshape((images, down, height, across, width, channels))?
            .permute((0, 1, 3, 2, 4, 5))?
            .contiguous()?
            .reshape((images * down * across, height, width, channels))?;
        let qkv = layer(&self.qkv, self.qkv_low_rank.as_ref(), &windows)?;
        let (first, second) = &self.rel_pos;
        let tables = (resized(&first.tensor, height)?, resized(&second.tensor, width)?);
        let out = attention::composed(&qkv, &tables.0, &tables.1, layout.heads)?;
        let out = out
            .reshape((images, down, across, height, width, channels))?
            .permute((0, 1, 3, 2, 4, 5))?
            .contiguous()?
            .reshape((images, down * height, across * width, channels))?
            .narrow(1, 0, rows)?
            .narrow(2, 0, columns)?;
        layer(&self.proj, self.proj_low_rank.as_ref(), &out.contiguous()?)
    }
}

fn norm(norm: &Layer, x: &Tensor) -> Result<Tensor> {
    layer_norm::composed(x, &norm.weight.tensor, &norm.bias.tensor, EPSILON)
}

/// `[side, size, side]`: for each query and each key along a side, the row of a table
/// `[rows, size]` that stands for their distance, the table interpolated where it is for another
/// side.
pub fn offset_table(table: &Tensor, side: usize) -> Result<Tensor> {
    attention::offsets(&resized(table, side)?, side)?.transpose(1, 2)?.contiguous()
}

/// A position table at the size of a side, by a product with the shares of its rows.
fn resized(tensor: &Tensor, side: usize) -> Result<Tensor> {
    let resize = Resize { from: tensor.dim(0)?, to: 2 * side - 1 };
    if resize.from == resize.to {
        return Ok(tensor.clone());
    }
    let mut shares = vec![0.0; resize.to * resize.from];
    for row in 0..resize.to {
        let (first, second, share) = resize.taps(row);
        shares[row * resize.from + first] += 1.0 - share;
        shares[row * resize.from + second] += share;
    }
    let shares = Tensor::from_vec(shares, (resize.to, resize.from), tensor.device())?;
    shares.to_dtype(tensor.dtype())?.matmul(tensor)
}
