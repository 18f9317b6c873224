//! A block and the patches from candle's own operators, for devices that there are no kernels for.

use candle_core::{Result, Tensor};

use super::layout::{EPSILON, Layout};
use super::parameters::{Block, Layer, LowRank};
use crate::nn::attention::{self, Resize};
use crate::nn::{gelu, layer_norm};

/// Tokens `[N, H / patch, W / patch, D]` of pictures `[N, 3, H, W]`.
pub(super) fn patches(layer: &Layer, patch: usize, images: &Tensor) -> Result<Tensor> {
    let (count, channels, height, width) = images.dims4()?;
    let (rows, columns) = (height / patch, width / patch);
    let patches = images
        .reshape((count * channels, rows, patch, columns * patch))?
        .reshape(vec![count, channels, rows, patch, columns, patch])?
        .permute(vec![0, 2, 4, 1, 3, 5])?
        .contiguous()?
        .reshape((count, rows, columns, channels * patch * patch))?;
    affine(&patches, &layer.weight.tensor.flatten_from(1)?, &layer.bias.tensor)
}

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

fn layer(layer: &Layer, low_rank: Option<&LowRank>, x: &Tensor) -> Result<Tensor> {
    let weight = match low_rank {
        None => layer.weight.tensor.clone(),
        Some(low_rank) => (&layer.weight.tensor + low_rank.composed()?)?,
    };
    affine(x, &weight, &layer.bias.tensor)
}

/// `x Wᵀ + b` along the last dimension.
fn affine(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let mut dims = x.dims().to_vec();
    let inputs = dims.pop().unwrap_or_default();
    dims.push(bias.elem_count());
    let rows = x.reshape(((), inputs))?;
    rows.matmul(&weight.t()?)?.broadcast_add(bias)?.reshape(dims)
}

impl LowRank {
    /// What is added to the weight of the layer, zeros between its parts.
    fn composed(&self) -> Result<Tensor> {
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
