//! Linear layers on slices, forward and backward, and what is added to their weights.

use candle_core::Result;
use rayon::prelude::*;

use super::parameters::{Layer, LowRank};
use crate::nn::kernel::columns;
use crate::nn::kernel::gemm::{Into, Matrix, Target, Threads, multiply};
use crate::nn::kernel::ops::Borrowed;
use crate::nn::kernel::real::{Real, vectorised};
use crate::nn::tape::sink::Sink;

/// `x Wᵀ + b`, and `residual` added where there is one: `x` is `[M, inputs]`, `weight`
/// `[outputs, inputs]`, `residual` `[M, outputs]`.
pub(in crate::nn) fn affine<T: Real>(
    x: &[T],
    weight: &[T],
    bias: &[T],
    residual: Option<&[T]>,
) -> Vec<T> {
    let outputs = bias.len();
    let inputs = weight.len() / outputs;
    let rows = x.len() / inputs;
    let mut out = vec![T::zero(); rows * outputs];
    // The product is added to what lies there: no pass of its own for bias and residual.
    out.par_chunks_exact_mut(outputs).with_min_len(16).enumerate().for_each(|(row, out)| {
        match residual {
            None => out.copy_from_slice(bias),
            Some(residual) => vectorised(
                #[inline(always)]
                || {
                    let residual = &residual[row * outputs..][..outputs];
                    for ((out, bias), residual) in out.iter_mut().zip(bias).zip(residual) {
                        *out = *bias + *residual;
                    }
                },
            ),
        }
    });
    multiply(
        Target::new(&mut out, rows, outputs),
        Matrix::new(x, rows, inputs),
        Matrix::new(weight, outputs, inputs).transposed(),
        Into::Add,
        Threads::Pool,
    );
    out
}

/// The gradient of `x` of [`affine`]: `grad W`, with `grad` `[M, outputs]`.
pub(in crate::nn) fn input_gradient<T: Real>(grad: &[T], weight: &[T], outputs: usize) -> Vec<T> {
    let (rows, inputs) = (grad.len() / outputs, weight.len() / outputs);
    let mut out = vec![T::zero(); rows * inputs];
    multiply(
        Target::new(&mut out, rows, inputs),
        Matrix::new(grad, rows, outputs),
        Matrix::new(weight, outputs, inputs),
        Into::Replace,
        Threads::Pool,
    );
    out
}

/// The gradient of the weight of [`affine`]: `gradᵀ x`.
pub(in crate::nn) fn weight_gradient<T: Real>(grad: &[T], x: &[T], outputs: usize) -> Vec<T> {
    let rows = grad.len() / outputs;
    let inputs = x.len() / rows;
    let mut out = vec![T::zero(); outputs * inputs];
    multiply(
        Target::new(&mut out, outputs, inputs),
        Matrix::new(grad, rows, outputs).transposed(),
        Matrix::new(x, rows, inputs),
        Into::Replace,
        Threads::Pool,
    );
    out
}

/// Hands over the gradients of a layer's weight, if it is trained, and of its bias, to which
/// `more` is added: `x` is asked for only where the weight is trained.
pub(in crate::nn) fn layer_gradients<T: Real>(
    layer: &Layer,
    grad: &[T],
    x: impl FnOnce() -> Result<Vec<T>>,
    sink: &Sink,
) -> Result<()> {
    let outputs = layer.bias.tensor.elem_count();
    if layer.weight.is_trained {
        layer.weight.put(sink, weight_gradient(grad, &x()?, outputs))?;
    }
    if layer.bias.is_trained {
        layer.bias.put(sink, columns::sum(grad, outputs))?;
    }
    Ok(())
}

impl LowRank {
    /// Rank, and sizes of the layer's inputs and of each part of its outputs.
    fn sizes(&self) -> Result<(usize, usize, usize)> {
        let (_, inputs) = self.down.tensor.dims2()?;
        let (outputs, rank) = self.up.tensor.dims2()?;
        Ok((rank, inputs, outputs / self.parts.len()))
    }

    /// `weight + scale · up down`.
    pub(in crate::nn) fn merged<T: Real>(&self, weight: &[T]) -> Result<Vec<T>> {
        let (rank, inputs, size) = self.sizes()?;
        let (down, up) = (Borrowed::of(&self.down.tensor), Borrowed::of(&self.up.tensor));
        let (down, up) = (down.values::<T>()?, up.values::<T>()?);
        let scale = T::from_f64(self.scale);
        let up: Vec<T> = up.iter().map(|value| *value * scale).collect();
        let mut out = weight.to_vec();
        let factors = up.chunks_exact(size * rank).zip(down.chunks_exact(rank * inputs));
        for ((up, down), part) in factors.zip(&self.parts) {
            multiply(
                Target::new(&mut out[part * size * inputs..][..size * inputs], size, inputs),
                Matrix::new(up, size, rank),
                Matrix::new(down, rank, inputs),
                Into::Add,
                Threads::Pool,
            );
        }
        Ok(out)
    }

    /// Hands over the gradients of both factors, with `grad` `[M, outputs]` and `x` `[M, inputs]`:
    /// `dup = scale · gradᵀ (x downᵀ)` and `ddown = scale · (grad up)ᵀ x`, part by part. The gradient
    /// of the whole weight is not needed.
    pub(in crate::nn) fn gradients<T: Real>(&self, grad: &[T], x: &[T], sink: &Sink) -> Result<()> {
        let (rank, inputs, size) = self.sizes()?;
        let (down, up) = (Borrowed::of(&self.down.tensor), Borrowed::of(&self.up.tensor));
        let (down, up) = (down.values::<T>()?, up.values::<T>()?);
        let rows = x.len() / inputs;
        let grad = Matrix::new(grad, rows, grad.len() / rows);
        let x = Matrix::new(x, rows, inputs);
        let product = |left: Matrix<'_, T>, right: Matrix<'_, T>, (m, n): (usize, usize)| {
            let mut out = vec![T::zero(); m * n];
            multiply(Target::new(&mut out, m, n), left, right, Into::Replace, Threads::Pool);
            out
        };
        let scale = T::from_f64(self.scale);
        let scaled = |values: Vec<T>| values.into_iter().map(move |value| value * scale);
        let (mut d_down, mut d_up) = (Vec::new(), Vec::new());
        let factors = up.chunks_exact(size * rank).zip(down.chunks_exact(rank * inputs));
        for ((up, down), part) in factors.zip(&self.parts) {
            let grad = grad.columns(part * size..(part + 1) * size);
            let low = product(x, Matrix::new(down, rank, inputs).transposed(), (rows, rank));
            let low = Matrix::new(&low, rows, rank);
            d_up.extend(scaled(product(grad.transposed(), low, (size, rank))));
            let back = product(grad, Matrix::new(up, size, rank), (rows, rank));
            let back = Matrix::new(&back, rows, rank);
            d_down.extend(scaled(product(back.transposed(), x, (rank, inputs))));
        }
        if self.up.is_trained {
            self.up.put(sink, d_up)?;
        }
        if self.down.is_trained {
            self.down.put(sink, d_down)?;
        }
        Ok(())
    }
}
