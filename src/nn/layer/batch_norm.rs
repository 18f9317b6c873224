//! Batch normalisation with an exact gradient, on batch statistics or on frozen ones.

use candle_core::{CpuStorage, CustomOp3, DType, Layout, Result, Shape, Tensor, Var, WithDType};
use rayon::prelude::*;

use crate::nn::kernel::lanes;
use crate::nn::kernel::ops::{to_vec, with_values};
use crate::nn::tape::pass::Mode;

/// Added to the variance, as in torchvision.
pub const EPSILON: f64 = 1e-5;
/// Weight of a batch in the running statistics, as in PyTorch.
const MOMENTUM: f64 = 0.1;

/// One normalisation layer: scale, shift and running statistics of each channel.
#[derive(Debug, Clone)]
pub struct BatchNorm {
    /// Scale, `[C]`.
    pub weight: Tensor,
    /// Shift, `[C]`.
    pub bias: Tensor,
    /// Running mean, `[C]`; not trained.
    pub running_mean: Var,
    /// Running unbiased variance, `[C]`; not trained.
    pub running_var: Var,
}

impl BatchNorm {
    /// Normalises `x` `[N, C, H, W]` by its channel statistics. In [`Mode::Train`] they are those of
    /// the batch (biased variance), and the running ones move towards them by a tenth.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        if !x.device().is_cpu() {
            return self.composed(x, mode);
        }
        let x = x.contiguous()?;
        let (images, _, height, width) = x.dims4()?;
        let statistics = match mode {
            Mode::Frozen => self.running()?,
            Mode::Train => {
                let statistics = Statistics::of(&x)?;
                self.follow(images * height * width, &statistics)?;
                statistics
            }
        };
        let inverse = statistics.inverse();
        let op = Normalise { mean: statistics.mean, inverse, of_batch: mode == Mode::Train };
        x.apply_op3(&self.weight, &self.bias, op)
    }

    /// The running statistics.
    pub(in crate::nn) fn running(&self) -> Result<Statistics> {
        let values = |running: &Var| to_vec::<f64>(&running.to_dtype(DType::F64)?);
        Ok(Statistics { mean: values(&self.running_mean)?, variance: values(&self.running_var)? })
    }

    /// Moves the running statistics towards those of a batch of `count` values a channel; the
    /// running variance is the unbiased one.
    pub(in crate::nn) fn follow(&self, count: usize, batch: &Statistics) -> Result<()> {
        let count = count as f64;
        let unbiased = count / (count - 1.0).max(1.0);
        let moved = |running: &Var, batch: &[f64], factor: f64| -> Result<()> {
            let batch = Tensor::from_slice(batch, batch.len(), running.device())?;
            let batch = (batch.to_dtype(running.dtype())? * (factor * MOMENTUM))?;
            running.set(&((running.as_tensor() * (1.0 - MOMENTUM))? + batch)?)
        };
        moved(&self.running_mean, &batch.mean, 1.0)?;
        moved(&self.running_var, &batch.variance, unbiased)
    }

    /// The same from candle's own operators, for devices that this module has no kernels for.
    fn composed(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let along = |t: &Tensor| t.reshape((1, (), 1, 1));
        let (mean, variance) = match mode {
            Mode::Frozen => (along(&self.running_mean)?, along(&self.running_var)?),
            Mode::Train => {
                let mean = x.mean_keepdim((0, 2, 3))?;
                let variance = x.broadcast_sub(&mean)?.sqr()?.mean_keepdim((0, 2, 3))?;
                let flat = |t: &Tensor| to_vec::<f64>(&t.detach().to_dtype(DType::F64)?);
                let batch = Statistics { mean: flat(&mean)?, variance: flat(&variance)? };
                let (images, _, height, width) = x.dims4()?;
                self.follow(images * height * width, &batch)?;
                (mean, variance)
            }
        };
        let normal = x.broadcast_sub(&mean)?.broadcast_div(&(variance + EPSILON)?.sqrt()?)?;
        normal.broadcast_mul(&along(&self.weight)?)?.broadcast_add(&along(&self.bias)?)
    }
}

/// Normalises `x` `[N, C, H, W]` by the channel statistics of the batch, which nothing keeps: as
/// [`BatchNorm::forward`] does in training. `weight` and `bias` are `[C]`.
pub fn by_batch(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    if !x.device().is_cpu() {
        let along = |t: &Tensor| t.reshape((1, (), 1, 1));
        let centred = x.broadcast_sub(&x.mean_keepdim((0, 2, 3))?)?;
        let variance = centred.sqr()?.mean_keepdim((0, 2, 3))?;
        let normal = centred.broadcast_div(&(variance + EPSILON)?.sqrt()?)?;
        return normal.broadcast_mul(&along(weight)?)?.broadcast_add(&along(bias)?);
    }
    let x = x.contiguous()?;
    let statistics = Statistics::of(&x)?;
    let inverse = statistics.inverse();
    x.apply_op3(weight, bias, Normalise { mean: statistics.mean, inverse, of_batch: true })
}

/// Mean and biased variance of each channel: `[2, C]`.
struct Moments;

impl candle_core::CustomOp1 for Moments {
    fn name(&self) -> &'static str {
        "batch-moments"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, channels, height, width) = layout.shape().dims4()?;
        let storage = with_values!((x, storage, layout) =>
            WithDType::to_cpu_storage_owned(moments(x, channels, height * width)));
        Ok((storage, (2, channels).into()))
    }
}

fn moments<T: WithDType>(x: &[T], channels: usize, pixels: usize) -> Vec<T> {
    let planes: Vec<(f64, f64)> = x.par_chunks_exact(pixels).map(lanes::moments).collect();
    let batch = Statistics::merge(&planes, channels, pixels);
    batch.mean.iter().chain(&batch.variance).map(|value| T::from_f64(*value)).collect()
}

/// Mean and biased variance of each channel.
#[derive(Debug, Clone)]
pub(in crate::nn) struct Statistics {
    pub(in crate::nn) mean: Vec<f64>,
    pub(in crate::nn) variance: Vec<f64>,
}

impl Statistics {
    /// Those of a batch `[N, C, H, W]`.
    fn of(x: &Tensor) -> Result<Self> {
        let rows = x.apply_op1_no_bwd(&Moments)?.to_dtype(DType::F64)?.to_vec2::<f64>()?;
        let [mean, variance] = <[Vec<f64>; 2]>::try_from(rows)
            .map_err(|_| candle_core::Error::Msg("two rows of moments".to_owned()))?;
        Ok(Self { mean, variance })
    }

    /// Those of a batch from the moments of each plane of `pixels` values, image after image.
    pub(in crate::nn) fn merge(planes: &[(f64, f64)], channels: usize, pixels: usize) -> Self {
        let count = (planes.len() / channels * pixels) as f64;
        let of_channel = |channel: usize| {
            lanes::merge(planes.iter().skip(channel).step_by(channels).copied(), pixels)
        };
        let merged: Vec<(f64, f64)> = (0..channels).map(of_channel).collect();
        Self {
            mean: merged.iter().map(|(mean, _)| *mean).collect(),
            variance: merged.iter().map(|(_, squares)| squares / count).collect(),
        }
    }

    /// `1 / √(variance + ε)`.
    pub(in crate::nn) fn inverse(&self) -> Vec<f64> {
        self.variance.iter().map(|variance| 1.0 / (variance + EPSILON).sqrt()).collect()
    }
}

/// `y = weight (x − mean) inverse + bias` of each channel.
struct Normalise {
    mean: Vec<f64>,
    inverse: Vec<f64>,
    /// Whether the statistics are those of `x`, and so part of its gradient.
    of_batch: bool,
}

impl Normalise {
    fn forward<T: WithDType>(&self, x: &[T], weight: &[T], bias: &[T], pixels: usize) -> Vec<T> {
        let mut out = vec![T::zero(); x.len()];
        out.par_chunks_exact_mut(pixels).zip(x.par_chunks_exact(pixels)).enumerate().for_each(
            |(plane, (out, x))| {
                let channel = plane % self.mean.len();
                let slope = weight[channel].to_f64() * self.inverse[channel];
                let offset = T::from_f64(bias[channel].to_f64() - self.mean[channel] * slope);
                let slope = T::from_f64(slope);
                out.iter_mut().zip(x).for_each(|(out, x)| *out = *x * slope + offset);
            },
        );
        out
    }

    /// With `n = (x − mean) inverse` and `m` the number of values of a channel:
    /// `dbias = Σ g`, `dweight = Σ g n`, and
    /// `dx = weight inverse (g − dbias / m − n dweight / m)`, without the last two terms when the
    /// statistics are not those of `x`.
    fn backward<T: WithDType>(
        &self,
        x: &[T],
        weight: &[T],
        grad: &[T],
        pixels: usize,
    ) -> (Vec<T>, Vec<T>, Vec<T>) {
        let channels = self.mean.len();
        let count = (x.len() / channels) as f64;
        let of_plane = |(plane, (x, grad)): (usize, (&[T], &[T]))| {
            let channel = plane % channels;
            let center = T::from_f64(self.mean[channel]);
            let (total, along) = lanes::sum_two(x, grad, |x, g| (g, g * (x - center)));
            (total.to_f64(), along.to_f64() * self.inverse[channel])
        };
        let planes = x.par_chunks_exact(pixels).zip(grad.par_chunks_exact(pixels));
        let planes: Vec<(f64, f64)> = planes.enumerate().map(of_plane).collect();
        let of_channel = |channel: usize| {
            let parts = planes.iter().skip(channel).step_by(channels);
            parts.fold((0.0, 0.0), |sum, part| (sum.0 + part.0, sum.1 + part.1))
        };
        let sums: Vec<(f64, f64)> = (0..channels).map(of_channel).collect();
        let mut dx = vec![T::zero(); x.len()];
        dx.par_chunks_exact_mut(pixels)
            .zip(x.par_chunks_exact(pixels).zip(grad.par_chunks_exact(pixels)))
            .enumerate()
            .for_each(|(plane, (dx, (x, grad)))| {
                let channel = plane % channels;
                let (mean, inverse) = (self.mean[channel], self.inverse[channel]);
                let (total, along) = if self.of_batch { sums[channel] } else { (0.0, 0.0) };
                let scale = weight[channel].to_f64() * inverse;
                // dx = a g + b x + c
                let a = T::from_f64(scale);
                let b = T::from_f64(-scale * along * inverse / count);
                let c = T::from_f64(scale * (along * inverse * mean - total) / count);
                dx.iter_mut()
                    .zip(x.iter().zip(grad))
                    .for_each(|(dx, (x, grad))| *dx = a * *grad + b * *x + c);
            });
        let dweight = sums.iter().map(|(_, along)| T::from_f64(*along)).collect();
        let dbias = sums.iter().map(|(total, _)| T::from_f64(*total)).collect();
        (dx, dweight, dbias)
    }

    fn gradients<T: WithDType>(
        &self,
        x: &Tensor,
        weight: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (_, channels, height, width) = x.dims4()?;
        let (x_values, weight, grad) = (to_vec::<T>(x)?, to_vec::<T>(weight)?, to_vec::<T>(grad)?);
        let (dx, dweight, dbias) = self.backward(&x_values, &weight, &grad, height * width);
        let tensor = |values: Vec<T>, shape: Shape| Tensor::from_vec(values, shape, x.device());
        Ok((
            Some(tensor(dx, x.shape().clone())?),
            Some(tensor(dweight, channels.into())?),
            Some(tensor(dbias, channels.into())?),
        ))
    }
}

impl CustomOp3 for Normalise {
    fn name(&self) -> &'static str {
        "batch-norm"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (_, _, height, width) = l1.shape().dims4()?;
        let storage = with_values!((x, s1, l1), (weight, s2, l2), (bias, s3, l3) =>
            WithDType::to_cpu_storage_owned(self.forward(x, weight, bias, height * width)));
        Ok((storage, l1.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _bias: &Tensor,
        _out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        match x.dtype() {
            DType::F32 => self.gradients::<f32>(x, weight, grad),
            _ => self.gradients::<f64>(x, weight, grad),
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor, Var};

    use super::{BatchNorm, Mode};

    fn variable(shape: &[usize], shift: f64) -> Var {
        let count: usize = shape.iter().product();
        let values: Vec<f64> =
            (0..count).map(|at| (at * 37 % 101) as f64 / 50.0 - 1.0 + shift).collect();
        Var::from_vec(values, shape, &Device::Cpu).expect("a tensor")
    }

    fn norm() -> BatchNorm {
        BatchNorm {
            weight: variable(&[3], 0.1).as_tensor().clone(),
            bias: variable(&[3], 0.2).as_tensor().clone(),
            running_mean: variable(&[3], 0.3),
            running_var: variable(&[3], 2.0),
        }
    }

    #[test]
    fn the_composed_path_equals_the_kernel_forward_and_backward() {
        let flat = |x: &Tensor| x.flatten_all().and_then(|x| x.to_vec1::<f64>()).expect("values");
        let x = variable(&[2, 3, 4, 5], 0.0);
        for mode in [Mode::Train, Mode::Frozen] {
            let results = [false, true].map(|is_composed| {
                let norm = norm();
                let y = if is_composed { norm.composed(&x, mode) } else { norm.forward(&x, mode) };
                let y = y.expect("normalised");
                let loss = y.sqr().and_then(|y| y.mul(&y.sin()?)?.sum_all()).expect("a loss");
                let grads = loss.backward().expect("gradients");
                let of = |tensor: &Tensor| flat(grads.get(tensor).expect("a gradient"));
                let running = [flat(&norm.running_mean), flat(&norm.running_var)].concat();
                [flat(&y), of(&x), of(&norm.weight), of(&norm.bias), running]
            });
            let [kernel, composed] = results;
            for (one, other) in kernel.iter().flatten().zip(composed.iter().flatten()) {
                assert!((one - other).abs() < 1e-10, "{mode:?}: {one} {other}");
            }
        }
    }
}
