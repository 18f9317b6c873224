//! Layer normalisation over the last dimension with an exact gradient (Ba et al. 2016).

use candle_core::{CpuStorage, CustomOp3, D, DType, Layout, Result, Shape, Tensor, WithDType};
use rayon::prelude::*;

use crate::nn::kernel::ops::{Borrowed, with_values};
use crate::nn::kernel::real::{Real, vectorised};
use crate::nn::kernel::{columns, lanes};

/// Added to variances in vision transformers (SAM's and DINOv2's).
pub const TRANSFORMER_EPSILON: f64 = 1e-6;

/// Rows that a piece of work holds: fixed, so that sums over rows come in one order.
const ROWS: usize = 32;

/// `weight (x − mean) / √(variance + epsilon) + bias` over the last dimension, the variance biased:
/// `x` is `[.., D]`, `weight` and `bias` are `[D]`.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, epsilon: f64) -> Result<Tensor> {
    if x.device().is_cpu() {
        x.contiguous()?.apply_op3(&weight.contiguous()?, &bias.contiguous()?, LayerNorm { epsilon })
    } else {
        composed(x, weight, bias, epsilon)
    }
}

/// The same from candle's own operators.
pub(in crate::nn) fn composed(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    epsilon: f64,
) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    let normal = centred.broadcast_div(&(variance + epsilon)?.sqrt()?)?;
    normal.broadcast_mul(weight)?.broadcast_add(bias)
}

/// Mean and `1 / √(variance + epsilon)` of each row of `size` values.
pub(in crate::nn) fn statistics<T: Real>(x: &[T], size: usize, epsilon: f64) -> Vec<(T, T)> {
    let of_row = |row: &[T]| {
        vectorised(
            #[inline(always)]
            || {
                let (mean, squares) = lanes::moments(row);
                let inverse = 1.0 / (squares / size as f64 + epsilon).sqrt();
                (T::from_f64(mean), T::from_f64(inverse))
            },
        )
    };
    x.par_chunks_exact(size).with_min_len(ROWS).map(of_row).collect()
}

/// Writes the normalised rows of `x` over `out`.
pub(in crate::nn) fn normalise<T: Real>(
    x: &[T],
    statistics: &[(T, T)],
    (weight, bias): (&[T], &[T]),
    out: &mut [T],
) {
    let size = weight.len();
    out.par_chunks_exact_mut(size)
        .with_min_len(ROWS)
        .zip(x.par_chunks_exact(size).zip(statistics))
        .for_each(|(out, (x, (mean, inverse)))| {
            vectorised(
                #[inline(always)]
                || {
                    for ((out, x), (weight, bias)) in
                        out.iter_mut().zip(x).zip(weight.iter().zip(bias))
                    {
                        *out = (*x - *mean) * *inverse * *weight + *bias;
                    }
                },
            );
        });
}

/// Rows, and the mean and inverse deviation of each.
type Normalised<'a, T> = (&'a [T], &'a [(T, T)]);

/// Adds the gradient of `x` to `d_x`, and returns those of weight and bias. With
/// `n = (x − mean) inverse` and `h = weight grad`:
/// `dx = inverse (h − mean(h) − n mean(h n))`, `dweight = Σ grad n`, `dbias = Σ grad`.
pub(in crate::nn) fn backward<T: Real>(
    x: &[T],
    statistics: &[(T, T)],
    weight: &[T],
    grad: &[T],
    d_x: &mut [T],
) -> (Vec<T>, Vec<T>) {
    let size = weight.len();
    let of_rows = |((x, statistics), (grad, d_x)): (Normalised<'_, T>, (&[T], &mut [T]))| {
        let mut sums = vec![T::zero(); 2 * size];
        let (d_weight, d_bias) = sums.split_at_mut(size);
        let rows = x.chunks_exact(size).zip(statistics).zip(grad.chunks_exact(size));
        for (((x, (mean, inverse)), grad), d_x) in rows.zip(d_x.chunks_exact_mut(size)) {
            vectorised(
                #[inline(always)]
                || {
                    let (mean, inverse) = (*mean, *inverse);
                    let (total, along) = projections(x, weight, grad, mean);
                    let share = T::from_f64(1.0 / size as f64);
                    let (level, slope) = (total * share, along * inverse * share);
                    for at in 0..size {
                        let (normal, grad) = ((x[at] - mean) * inverse, grad[at]);
                        d_x[at] += inverse * (weight[at] * grad - level - normal * slope);
                        d_weight[at] += grad * normal;
                        d_bias[at] += grad;
                    }
                },
            );
        }
        sums
    };
    let parts: Vec<Vec<T>> = x
        .par_chunks(size * ROWS)
        .zip(statistics.par_chunks(ROWS))
        .zip(grad.par_chunks(size * ROWS).zip(d_x.par_chunks_mut(size * ROWS)))
        .map(of_rows)
        .collect();
    let mut sums = columns::add_up(&parts, 2 * size);
    let d_bias = sums.split_off(size);
    (sums, d_bias)
}

/// `(Σ weight grad, Σ weight grad (x − mean))` of a row, in lanes.
#[inline]
fn projections<T: Real>(x: &[T], weight: &[T], grad: &[T], mean: T) -> (T, T) {
    const LANES: usize = 16;
    let (mut total, mut along) = ([T::zero(); LANES], [T::zero(); LANES]);
    for ((x, weight), grad) in x.chunks(LANES).zip(weight.chunks(LANES)).zip(grad.chunks(LANES)) {
        for (lane, ((x, weight), grad)) in x.iter().zip(weight).zip(grad).enumerate() {
            let h = *weight * *grad;
            total[lane] += h;
            along[lane] += h * (*x - mean);
        }
    }
    let fold = |lanes: [T; LANES]| lanes.into_iter().fold(T::zero(), |sum, lane| sum + lane);
    (fold(total), fold(along))
}

struct LayerNorm {
    epsilon: f64,
}

impl LayerNorm {
    fn forward<T: Real>(&self, x: &[T], weight: &[T], bias: &[T]) -> Vec<T> {
        let mut out = vec![T::zero(); x.len()];
        normalise(x, &statistics(x, weight.len(), self.epsilon), (weight, bias), &mut out);
        out
    }

    fn gradients<T: Real>(&self, x: &Tensor, weight: &Tensor, grad: &Tensor) -> Result<Three> {
        let grad = grad.contiguous()?;
        let (x_values, weight_values, grad) =
            (Borrowed::of(x), Borrowed::of(weight), Borrowed::of(&grad));
        let (x_values, weight_values) = (x_values.values::<T>()?, weight_values.values::<T>()?);
        let mut d_x = vec![T::zero(); x_values.len()];
        let statistics = statistics(x_values, weight_values.len(), self.epsilon);
        let (d_weight, d_bias) =
            backward(x_values, &statistics, weight_values, grad.values::<T>()?, &mut d_x);
        let tensor = |values: Vec<T>, shape: &Shape| Tensor::from_vec(values, shape, x.device());
        Ok((
            Some(tensor(d_x, x.shape())?),
            Some(tensor(d_weight, weight.shape())?),
            Some(tensor(d_bias, weight.shape())?),
        ))
    }
}

type Three = (Option<Tensor>, Option<Tensor>, Option<Tensor>);

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer-norm"
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
        let storage = with_values!((x, s1, l1), (weight, s2, l2), (bias, s3, l3) =>
            WithDType::to_cpu_storage_owned(self.forward(x, weight, bias)));
        Ok((storage, l1.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _bias: &Tensor,
        _out: &Tensor,
        grad: &Tensor,
    ) -> Result<Three> {
        match x.dtype() {
            DType::F32 => self.gradients::<f32>(x, weight, grad),
            _ => self.gradients::<f64>(x, weight, grad),
        }
    }
}
