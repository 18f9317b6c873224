//! Pictures as tokens: the convolution of patches as one matrix product.

use std::marker::PhantomData;

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout as Strides, Result, Shape, Tensor};

use crate::nn::kernel::ops::{Borrowed, to_vec, values};
use crate::nn::kernel::real::Real;
use crate::nn::layer::linear::composed;
use crate::nn::layer::linear::parameters::Layer;
use crate::nn::layer::linear::products::{affine, layer_gradients};
use crate::nn::tape::sink::Sink;

/// Patches as tokens: a convolution whose kernel is its stride, on the CPU.
pub(in crate::nn) struct Patches<T> {
    layer: Layer,
    patch: usize,
    sink: Sink,
    number: PhantomData<fn() -> T>,
}

impl<T: Real> Patches<T> {
    /// Tokens `[N, H / patch, W / patch, D]` of pictures `[N, 3, H, W]`, whose own gradient is
    /// never asked for.
    pub(in crate::nn) fn apply(
        layer: &Layer,
        patch: usize,
        sink: &Sink,
        images: &Tensor,
        anchor: Option<&Tensor>,
    ) -> Result<Tensor> {
        let is_trained = layer.weight.is_trained || layer.bias.is_trained;
        let op = Self { layer: layer.clone(), patch, sink: sink.clone(), number: PhantomData };
        let images = images.contiguous()?;
        match anchor.filter(|_| is_trained) {
            None => images.apply_op1_no_bwd(&op),
            Some(anchor) => images.apply_op2(anchor, op),
        }
    }

    /// The values of each patch, channel after channel, row after row: `[tokens, 3 patch²]`.
    fn unfold(&self, images: &[T], (count, channels, height, width): Dims) -> Vec<T> {
        let (patch, size) = (self.patch, channels * height * width);
        let mut out = Vec::with_capacity(images.len());
        for image in images.chunks_exact(size).take(count) {
            for (row, column) in (0..height / patch)
                .flat_map(|row| (0..width / patch).map(move |column| (row, column)))
            {
                for plane in image.chunks_exact(height * width) {
                    for line in 0..patch {
                        let start = (row * patch + line) * width + column * patch;
                        out.extend_from_slice(&plane[start..start + patch]);
                    }
                }
            }
        }
        out
    }
}

type Dims = (usize, usize, usize, usize);

impl<T: Real> CustomOp1 for Patches<T> {
    fn name(&self) -> &'static str {
        "patches"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Strides) -> Result<(CpuStorage, Shape)> {
        let dims = layout.shape().dims4()?;
        let patches = self.unfold(values::<T>(storage, layout)?, dims);
        let (weight, bias) =
            (Borrowed::of(&self.layer.weight.tensor), Borrowed::of(&self.layer.bias.tensor));
        let bias = bias.values::<T>()?;
        let out = affine(&patches, weight.values()?, bias, None);
        let shape = (dims.0, dims.2 / self.patch, dims.3 / self.patch, bias.len());
        Ok((T::to_cpu_storage_owned(out), shape.into()))
    }
}

impl<T: Real> CustomOp2 for Patches<T> {
    fn name(&self) -> &'static str {
        "patches"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Strides,
        _: &CpuStorage,
        _: &Strides,
    ) -> Result<(CpuStorage, Shape)> {
        CustomOp1::cpu_fwd(self, s1, l1)
    }

    fn bwd(
        &self,
        images: &Tensor,
        _anchor: &Tensor,
        _out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = to_vec::<T>(grad)?;
        let dims = images.dims4()?;
        let values = Borrowed::of(images);
        let patches = || Ok(self.unfold(values.values::<T>()?, dims));
        layer_gradients(&self.layer, &grad, patches, &self.sink)?;
        Ok((None, None))
    }
}

/// The same tokens from candle's own operators.
pub(in crate::nn) fn composed(layer: &Layer, patch: usize, images: &Tensor) -> Result<Tensor> {
    let (count, channels, height, width) = images.dims4()?;
    let (rows, columns) = (height / patch, width / patch);
    let patches = images
        .reshape((count * channels, rows, patch, columns * patch))?
        .reshape(vec![count, channels, rows, patch, columns, patch])?
        .permute(vec![0, 2, 4, 1, 3, 5])?
        .contiguous()?
        .reshape((count, rows, columns, channels * patch * patch))?;
    composed::affine(&patches, &layer.weight.tensor.flatten_from(1)?, &layer.bias.tensor)
}
