//! A convolution, its batch normalisation and, where there is one, its ReLU, as one operator.
//!
//! Fused, the statistics are taken while an image's output is still in the cache, the normalised
//! value is written once, and going backwards no gradient between the three is ever stored.

use std::sync::{Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp3, DType, Layout, Result, Shape, Tensor, WithDType, bail};
use rayon::prelude::*;

use super::batch_norm::{BatchNorm, Statistics};
use super::conv::{Geometry, Gradients, Scratch, conv2d};
use super::encoder::Mode;
use super::lanes;
use super::ops::{Borrowed, relu, to_vec, with_values};

/// What follows the normalisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    None,
    /// `max(y, 0)`.
    Relu,
}

/// `activation(norm(conv(x)))`; see [`conv2d`] and [`BatchNorm`] for shapes and statistics.
pub fn conv_norm(
    x: &Tensor,
    weight: &Tensor,
    (stride, padding): (usize, usize),
    norm: &BatchNorm,
    mode: Mode,
    activation: Activation,
) -> Result<Tensor> {
    if !x.device().is_cpu() {
        let y = norm.forward(&conv2d(x, weight, stride, padding)?, mode)?;
        return match activation {
            Activation::None => Ok(y),
            Activation::Relu => relu(&y),
        };
    }
    let geometry = Geometry::of(x.dims4()?, weight.dims4()?, stride, padding)?;
    let fixed = match mode {
        Mode::Train => None,
        Mode::Frozen => Some(norm.running()?),
    };
    let kept = std::sync::Arc::new(Mutex::new(None));
    let op = ConvNorm { geometry, fixed, activation, kept: std::sync::Arc::clone(&kept) };
    // An operator has three inputs at most: scale and shift go as one.
    let affine = Tensor::stack(&[&norm.weight, &norm.bias], 0)?;
    let y = x.contiguous()?.apply_op3(&weight.contiguous()?, &affine, op)?;
    if mode == Mode::Train {
        let kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Kept { statistics, .. }) = &*kept {
            norm.follow(geometry.images * geometry.positions(), statistics)?;
        }
    }
    Ok(y)
}

/// What the way back needs of the way there.
struct Kept {
    /// The convolution's output, before the normalisation.
    convolved: CpuStorage,
    statistics: Statistics,
}

struct ConvNorm {
    geometry: Geometry,
    /// The statistics to use, when they are not those of the batch.
    fixed: Option<Statistics>,
    activation: Activation,
    kept: std::sync::Arc<Mutex<Option<Kept>>>,
}

impl ConvNorm {
    fn forward<T: WithDType>(&self, x: &[T], weight: &[T], affine: &[T]) -> Vec<T> {
        let Geometry { outputs, .. } = self.geometry;
        let (output, positions) = (self.geometry.output(), self.geometry.positions());
        let mut convolved = vec![T::zero(); self.geometry.images * output];
        let wants_statistics = self.fixed.is_none();
        let parts: Vec<Vec<(f64, f64)>> = convolved
            .par_chunks_exact_mut(output)
            .zip(x.par_chunks_exact(self.geometry.image()))
            .map_init(Scratch::default, |scratch, (out, image)| {
                self.geometry.forward_image(image, weight, out, scratch);
                if wants_statistics {
                    out.chunks_exact(positions).map(lanes::moments).collect()
                } else {
                    Vec::new()
                }
            })
            .collect();
        let statistics = match &self.fixed {
            Some(fixed) => fixed.clone(),
            None => Statistics::merge(&parts.concat(), outputs, positions),
        };
        let (mean, inverse) = (&statistics.mean, statistics.inverse());
        let mut out = vec![T::zero(); convolved.len()];
        let is_rectified = self.activation == Activation::Relu;
        out.par_chunks_exact_mut(positions)
            .zip(convolved.par_chunks_exact(positions))
            .enumerate()
            .for_each(|(plane, (out, x))| {
                let channel = plane % outputs;
                let slope = affine[channel].to_f64() * inverse[channel];
                let offset = affine[outputs + channel].to_f64() - mean[channel] * slope;
                let (slope, offset, zero) = (T::from_f64(slope), T::from_f64(offset), T::zero());
                if is_rectified {
                    for (out, x) in out.iter_mut().zip(x) {
                        let y = *x * slope + offset;
                        *out = if y > zero { y } else { zero };
                    }
                } else {
                    out.iter_mut().zip(x).for_each(|(out, x)| *out = *x * slope + offset);
                }
            });
        let kept = Kept { convolved: T::to_cpu_storage_owned(convolved), statistics };
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(kept);
        out
    }

    /// With `z` the convolution's output, `n = (z − mean) inverse`, `g` the gradient of the output
    /// where it passes the activation, and `m` the values of a channel: `dbias = Σ g`,
    /// `dweight = Σ g n`, `dz = weight inverse (g − dbias / m − n dweight / m)`, without the last
    /// two terms when the statistics are not those of `z`.
    fn gradients<T: WithDType>(
        &self,
        inputs: (&Tensor, &Tensor, &Tensor),
        out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (x, weight, affine) = inputs;
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Kept { convolved, statistics }) = kept else {
            bail!("the graph of a fused convolution was gone through backwards twice");
        };
        let z = convolved.as_slice::<T>()?;
        let grad = grad.contiguous()?;
        let borrowed =
            (Borrowed::of(x), Borrowed::of(weight), Borrowed::of(out), Borrowed::of(&grad));
        let (x_values, w_values) = (borrowed.0.values::<T>()?, borrowed.1.values::<T>()?);
        let (y, g) = (borrowed.2.values::<T>()?, borrowed.3.values::<T>()?);
        let scale = to_vec::<T>(&affine.get(0)?)?;
        let passes = Passes { z, y, g, is_rectified: self.activation == Activation::Relu };

        let Geometry { outputs, .. } = self.geometry;
        let (output, positions) = (self.geometry.output(), self.geometry.positions());
        let inverse = statistics.inverse();
        let sums = passes.sums(&self.geometry, &statistics.mean, &inverse);
        let count = (z.len() / outputs) as f64;
        // dz = a g + b z + c
        let line: Vec<[T; 3]> = (0..outputs)
            .map(|channel| {
                let (mean, inverse) = (statistics.mean[channel], inverse[channel]);
                let (total, along) = if self.fixed.is_none() { sums[channel] } else { (0.0, 0.0) };
                let a = scale[channel].to_f64() * inverse;
                let b = -a * along * inverse / count;
                let c = a * (along * inverse * mean - total) / count;
                [T::from_f64(a), T::from_f64(b), T::from_f64(c)]
            })
            .collect();
        let of_image = |at: usize, own: &mut [T]| {
            let start = at * output;
            for (channel, own) in own.chunks_exact_mut(positions).enumerate() {
                let plane = start + channel * positions..start + (channel + 1) * positions;
                passes.dz(plane, line[channel], own);
            }
        };
        let Gradients { input, weight: d_weight } =
            self.geometry.backward(x_values, w_values, &of_image, x.track_op());
        let input =
            input.map(|values| Tensor::from_vec(values, x.shape(), x.device())).transpose()?;
        let d_weight = Tensor::from_vec(d_weight, weight.shape(), x.device())?;
        let d_affine = sums
            .iter()
            .map(|(_, along)| T::from_f64(*along))
            .chain(sums.iter().map(|(total, _)| T::from_f64(*total)))
            .collect();
        let d_affine: Vec<T> = d_affine;
        Ok((input, Some(d_weight), Some(Tensor::from_vec(d_affine, (2, outputs), x.device())?)))
    }
}

/// The slices that both passes of the way back read.
struct Passes<'a, T> {
    z: &'a [T],
    y: &'a [T],
    g: &'a [T],
    is_rectified: bool,
}

impl<T: WithDType> Passes<'_, T> {
    /// `(Σ g, Σ g n)` of each channel, images in their order.
    fn sums(&self, geometry: &Geometry, mean: &[f64], inverse: &[f64]) -> Vec<(f64, f64)> {
        let (outputs, positions) = (geometry.outputs, geometry.positions());
        let of_plane = |plane: usize| {
            let channel = plane % outputs;
            let range = plane * positions..(plane + 1) * positions;
            let center = T::from_f64(mean[channel]);
            let (z, g) = (&self.z[range.clone()], &self.g[range.clone()]);
            let (total, along) = if self.is_rectified {
                lanes::sum_two_where_positive(z, g, &self.y[range], |z, g| (g, g * (z - center)))
            } else {
                lanes::sum_two(z, g, |z, g| (g, g * (z - center)))
            };
            (total.to_f64(), along.to_f64() * inverse[channel])
        };
        let planes: Vec<(f64, f64)> =
            (0..geometry.images * outputs).into_par_iter().with_min_len(8).map(of_plane).collect();
        let of_channel = |channel: usize| {
            let parts = planes.iter().skip(channel).step_by(outputs);
            parts.fold((0.0, 0.0), |sum, part| (sum.0 + part.0, sum.1 + part.1))
        };
        (0..outputs).map(of_channel).collect()
    }

    /// `dz` of one plane.
    fn dz(&self, plane: std::ops::Range<usize>, [a, b, c]: [T; 3], out: &mut [T]) {
        let zero = T::zero();
        let (z, g) = (&self.z[plane.clone()], &self.g[plane.clone()]);
        if self.is_rectified {
            for ((out, (z, g)), y) in out.iter_mut().zip(z.iter().zip(g)).zip(&self.y[plane]) {
                let g = if *y > zero { *g } else { zero };
                *out = a * g + b * *z + c;
            }
        } else {
            out.iter_mut()
                .zip(z.iter().zip(g))
                .for_each(|(out, (z, g))| *out = a * *g + b * *z + c);
        }
    }
}

impl CustomOp3 for ConvNorm {
    fn name(&self) -> &'static str {
        "conv-norm"
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
        let storage = with_values!((x, s1, l1), (weight, s2, l2), (affine, s3, l3) =>
            WithDType::to_cpu_storage_owned(self.forward(x, weight, affine)));
        Ok((storage, self.geometry.output_shape()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        affine: &Tensor,
        out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        match x.dtype() {
            DType::F32 => self.gradients::<f32>((x, weight, affine), out, grad),
            _ => self.gradients::<f64>((x, weight, affine), out, grad),
        }
    }
}
