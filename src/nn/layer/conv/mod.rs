//! 2-D convolution with exact gradients: unfolded images and matrix products, one image at a time.
//!
//! A 1x1 convolution of stride 1 is a matrix product on the data as it lies. Anything else unfolds
//! a few rows of an image into columns that stay in the cache while they are used.

mod batch;
mod composed;
mod geometry;
mod image;

use candle_core::{CpuStorage, CustomOp2, DType, Layout, Result, Shape, Tensor, WithDType};

use crate::nn::kernel::ops::{Borrowed, with_values};
use batch::Gradients;
pub use geometry::ConvSettings;
use geometry::Geometry;

/// Convolves `x` `[N, C, H, W]` with `weight` `[O, C, kh, kw]`: `[N, O, H', W']` with
/// `H' = (H + 2 padding − kh) / stride + 1`, likewise `W'`.
pub fn conv2d(x: &Tensor, weight: &Tensor, stride: usize, padding: usize) -> Result<Tensor> {
    convolve(x, weight, &ConvSettings::square(stride, padding))
}

/// Convolves `x` `[N, C, H, W]` with `weight` `[O, C/G, kh, kw]` in `G` groups: `[N, O, H', W']` with
/// `H' = (H + 2 padding − dilation (kh − 1) − 1) / stride + 1`, likewise `W'`.
pub fn convolve(x: &Tensor, weight: &Tensor, settings: &ConvSettings) -> Result<Tensor> {
    let geometry = Geometry::of(x.dims4()?, weight.dims4()?, settings)?;
    if x.device().is_cpu() {
        x.contiguous()?.apply_op2(&weight.contiguous()?, Conv2d(geometry))
    } else {
        geometry.composed(x, weight)
    }
}

struct Conv2d(Geometry);

impl CustomOp2 for Conv2d {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let storage = with_values!((x, s1, l1), (weight, s2, l2) =>
            WithDType::to_cpu_storage_owned(self.0.forward(x, weight)));
        Ok((storage, self.0.output_shape()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        match x.dtype() {
            DType::F32 => self.gradients::<f32>(x, weight, grad),
            _ => self.gradients::<f64>(x, weight, grad),
        }
    }
}

impl Conv2d {
    fn gradients<T: WithDType>(
        &self,
        x: &Tensor,
        weight: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let (x_values, w_values, g_values) =
            (Borrowed::of(x), Borrowed::of(weight), Borrowed::of(&grad));
        let (x_values, w_values, g_values) =
            (x_values.values::<T>()?, w_values.values::<T>()?, g_values.values::<T>()?);
        let output = self.0.output();
        let of_image = |at: usize, own: &mut [T]| {
            own.copy_from_slice(&g_values[at * output..][..output]);
        };
        // The gradient of the pictures themselves is never asked for.
        let Gradients { input, weight: d_weight } =
            self.0.backward(x_values, w_values, &of_image, x.track_op());
        let input = input.map(|values| Tensor::from_vec(values, x.shape(), x.device()));
        Ok((input.transpose()?, Some(Tensor::from_vec(d_weight, weight.shape(), x.device())?)))
    }
}
