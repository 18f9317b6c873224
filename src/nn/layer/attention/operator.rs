//! Attention over whole maps as one differentiable operator, and composed of candle's own.

use candle_core::{CpuStorage, CustomOp3, DType, Layout, Result, Tensor, WithDType, bail};

use super::inputs::Inputs;
use super::windows::Windows;
use super::{backward, forward};
use crate::nn::kernel::ops::{Borrowed, softmax, with_values};
use crate::nn::kernel::real::Real;

/// The sizes of a batch of maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    /// Maps.
    images: usize,
    /// Rows.
    height: usize,
    /// Columns.
    width: usize,
    /// Heads, which share the channels out.
    heads: usize,
    /// Channels of queries, keys and values each.
    channels: usize,
}

impl Shape {
    /// The shape of `qkv` `[N, H, W, 3 D]` with position tables `[2 H − 1, D / heads]` and
    /// `[2 W − 1, D / heads]`.
    fn of(qkv: &Tensor, down: &Tensor, across: &Tensor, heads: usize) -> Result<Self> {
        let (images, height, width, triple) = qkv.dims4()?;
        if heads == 0 || triple % (3 * heads) != 0 {
            bail!("{triple} channels cannot be queries, keys and values of {heads} heads");
        }
        let size = triple / 3 / heads;
        for (table, side) in [(down, height), (across, width)] {
            if table.dims() != [2 * side - 1, size] {
                bail!("a side of {side} takes positions [{}, {size}]", 2 * side - 1);
            }
        }
        Ok(Self { images, height, width, heads, channels: triple / 3 })
    }

    fn head_size(&self) -> usize {
        self.channels / self.heads
    }

    fn windows(&self) -> Windows {
        Windows {
            images: self.images,
            rows: self.height,
            columns: self.width,
            height: self.height,
            width: self.width,
            heads: self.heads,
            head_size: self.head_size(),
        }
    }
}

/// Multi-head attention over each map, `[N, H, W, D]`: `qkv` `[N, H, W, 3 D]` holds queries, keys
/// and values, heads side by side in each. The score of query `i` and key `j` is
/// `q_i · k_j / √size + q_i · down[y_i − y_j + H − 1] + q_i · across[x_i − x_j + W − 1]`
/// (Li et al. 2022, eq. 5).
pub fn attention(qkv: &Tensor, down: &Tensor, across: &Tensor, heads: usize) -> Result<Tensor> {
    let shape = Shape::of(qkv, down, across, heads)?;
    if qkv.device().is_cpu() {
        let (down, across) = (down.contiguous()?, across.contiguous()?);
        qkv.contiguous()?.apply_op3(&down, &across, Attention(shape))
    } else {
        composed(qkv, down, across, heads)
    }
}

/// The same from candle's own operators.
pub(in crate::nn) fn composed(
    qkv: &Tensor,
    down: &Tensor,
    across: &Tensor,
    heads: usize,
) -> Result<Tensor> {
    let shape = Shape::of(qkv, down, across, heads)?;
    let Shape { images, height, width, channels, .. } = shape;
    let (size, batch, keys) = (shape.head_size(), images * heads, height * width);
    let parts = qkv.reshape((images, keys, 3, heads, size))?.permute((2, 0, 3, 1, 4))?;
    let part = |at: usize| parts.get(at)?.contiguous()?.reshape((batch, keys, size));
    let (queries, keys_part, values) = (part(0)?, part(1)?, part(2)?);
    let scale = 1.0 / (size as f64).sqrt();
    let scores = (&queries * scale)?.matmul(&keys_part.t()?)?;
    let map = queries.reshape((batch, height, width, size))?;
    // [H, N W, size] by [H, size, H], and likewise across.
    let rows = map.permute((1, 0, 2, 3))?.contiguous()?.reshape((height, batch * width, size))?;
    let rows = rows.matmul(&offsets(down, height)?.transpose(1, 2)?.contiguous()?)?;
    let rows = rows.reshape((height, batch, width, height))?.permute((1, 0, 2, 3))?;
    let columns = map.permute((2, 0, 1, 3))?.contiguous()?;
    let columns = columns.reshape((width, batch * height, size))?;
    let columns = columns.matmul(&offsets(across, width)?.transpose(1, 2)?.contiguous()?)?;
    let columns = columns.reshape((width, batch, height, width))?.permute((1, 2, 0, 3))?;
    let scores = scores
        .reshape((batch, keys, height, width))?
        .broadcast_add(&rows.contiguous()?.reshape((batch, keys, height, 1))?)?
        .broadcast_add(&columns.contiguous()?.reshape((batch, keys, 1, width))?)?;
    let weights = softmax(&scores.reshape((batch, keys, keys))?)?;
    let out = weights.matmul(&values)?.reshape((images, heads, keys, size))?;
    out.transpose(1, 2)?.contiguous()?.reshape((images, height, width, channels))
}

/// Row `i − j + side − 1` of a table for query `i` and key `j`: `[side, side, size]`.
pub(in crate::nn) fn offsets(table: &Tensor, side: usize) -> Result<Tensor> {
    let row = |at: usize| (at / side + side - 1 - at % side) as u32;
    let rows: Vec<u32> = (0..side * side).map(row).collect();
    let rows = Tensor::from_vec(rows, side * side, table.device())?;
    table.contiguous()?.index_select(&rows, 0)?.reshape((side, side, table.dim(1)?))
}

struct Attention(Shape);

impl Attention {
    fn forward<T: Real>(&self, qkv: &[T], down: &[T], across: &[T]) -> Vec<T> {
        let padding = vec![T::zero(); 3 * self.0.channels];
        let inputs = Inputs { qkv, padding: &padding, positions: (down, across) };
        forward(&self.0.windows(), inputs).out
    }

    fn gradients<T: Real>(
        &self,
        [qkv, down, across]: [&Tensor; 3],
        grad: &Tensor,
    ) -> Result<[Option<Tensor>; 3]> {
        let grad = grad.contiguous()?;
        let [q, d, a] = [qkv, down, across].map(Borrowed::of);
        let padding = vec![T::zero(); 3 * self.0.channels];
        let positions = (d.values::<T>()?, a.values::<T>()?);
        let inputs = Inputs { qkv: q.values::<T>()?, padding: &padding, positions };
        let windows = self.0.windows();
        let kept = forward(&windows, inputs);
        let grads = backward(&windows, inputs, &kept, Borrowed::of(&grad).values::<T>()?);
        let tensor = |values: Vec<T>, like: &Tensor| {
            Tensor::from_vec(values, like.shape(), like.device()).map(Some)
        };
        Ok([
            tensor(grads.qkv, qkv)?,
            tensor(grads.positions.0, down)?,
            tensor(grads.positions.1, across)?,
        ])
    }
}

impl CustomOp3 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, candle_core::Shape)> {
        let storage = with_values!((qkv, s1, l1), (down, s2, l2), (across, s3, l3) =>
            WithDType::to_cpu_storage_owned(self.forward(qkv, down, across)));
        let Shape { images, height, width, channels, .. } = self.0;
        Ok((storage, (images, height, width, channels).into()))
    }

    fn bwd(
        &self,
        qkv: &Tensor,
        down: &Tensor,
        across: &Tensor,
        _out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [qkv, down, across] = match qkv.dtype() {
            DType::F32 => self.gradients::<f32>([qkv, down, across], grad)?,
            _ => self.gradients::<f64>([qkv, down, across], grad)?,
        };
        Ok((qkv, down, across))
    }
}
