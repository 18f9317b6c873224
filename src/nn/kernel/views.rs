//! Windows of images as tensors, from candle's own operators: what layers are composed of on devices
//! that this module has no kernels for. All of it is differentiable.

use candle_core::{Result, Tensor};

/// One dimension of a sliding window over an image.
#[derive(Debug, Clone, Copy)]
pub(in crate::nn) struct Axis {
    pub(in crate::nn) kernel: usize,
    pub(in crate::nn) stride: usize,
    pub(in crate::nn) padding: usize,
    pub(in crate::nn) dilation: usize,
    /// Positions of the window.
    pub(in crate::nn) out: usize,
}

impl Axis {
    /// The padded dimension that offset `tap` of the window meets, position by position.
    fn view(&self, x: &Tensor, dim: usize, tap: usize) -> Result<Tensor> {
        let start = tap * self.dilation;
        if self.stride == 1 {
            return x.narrow(dim, start, self.out);
        }
        let ids: Vec<u32> = (0..self.out).map(|at| (start + at * self.stride) as u32).collect();
        x.contiguous()?.index_select(&Tensor::from_vec(ids, self.out, x.device())?, dim)
    }
}

/// For each offset of the window, row by row, the values of `x` `[A, B, H, W]` that it meets:
/// `[A, B, H', W']`, with zeros beyond the image.
pub(in crate::nn) fn shifted(x: &Tensor, rows: &Axis, columns: &Axis) -> Result<Vec<Tensor>> {
    let padded = x.pad_with_zeros(2, rows.padding, rows.padding)?;
    let padded = padded.pad_with_zeros(3, columns.padding, columns.padding)?;
    shifted_padded(&padded, rows, columns)
}

/// The same of an `x` that has its padding already.
pub(in crate::nn) fn shifted_padded(
    x: &Tensor,
    rows: &Axis,
    columns: &Axis,
) -> Result<Vec<Tensor>> {
    let mut views = Vec::with_capacity(rows.kernel * columns.kernel);
    for row in 0..rows.kernel {
        let band = rows.view(x, 2, row)?;
        for column in 0..columns.kernel {
            views.push(columns.view(&band, 3, column)?);
        }
    }
    Ok(views)
}
