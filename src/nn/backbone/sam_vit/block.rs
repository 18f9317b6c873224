//! One block on slices: attention and perceptron, each normalised before and added to its input.

use candle_core::Result;

use super::parameters::Block;
use crate::nn::kernel::columns;
use crate::nn::kernel::ops::Borrowed;
use crate::nn::kernel::real::Real;
use crate::nn::layer::attention;
use crate::nn::layer::attention::{Inputs, Kept, Resize, Windows};
use crate::nn::layer::layer_norm::TRANSFORMER_EPSILON as EPSILON;
use crate::nn::layer::linear::parameters::{Layer, LowRank, Parameter};
use crate::nn::layer::linear::products::{
    affine, input_gradient, layer_gradients, weight_gradient,
};
use crate::nn::layer::{gelu, layer_norm};
use crate::nn::tape::sink::Sink;

/// The values of the forward pass that the backward pass needs; the rest is computed again.
pub(super) struct Saved<T> {
    input: Vec<T>,
    statistics1: Vec<(T, T)>,
    qkv: Vec<T>,
    attention: Kept<T>,
    middle: Vec<T>,
    statistics2: Vec<(T, T)>,
    hidden: Vec<T>,
}

impl Block {
    /// `m = x + proj(attention(norm1(x)))`, then `m + lin2(gelu(lin1(norm2(m))))`: tokens
    /// `[M, D]` to tokens, and what [`Self::backward`] needs.
    pub(super) fn forward<T: Real>(
        &self,
        windows: &Windows,
        input: Vec<T>,
    ) -> Result<(Vec<T>, Saved<T>)> {
        let channels = windows.channels();
        let statistics1 = layer_norm::statistics(&input, channels, EPSILON);
        let mut normal = vec![T::zero(); input.len()];
        normalise(&self.norm1, &input, &statistics1, &mut normal)?;
        let bias = Borrowed::of(&self.qkv.bias.tensor);
        let weight = Weight::of(&self.qkv, self.qkv_low_rank.as_ref())?;
        let qkv = affine(&normal, weight.values()?, bias.values()?, None);
        let tables = self.tables(windows)?;
        let inputs =
            Inputs { qkv: &qkv, padding: bias.values()?, positions: (&tables[0], &tables[1]) };
        let attention = attention::forward(windows, inputs);
        let bias = Borrowed::of(&self.proj.bias.tensor);
        let weight = Weight::of(&self.proj, self.proj_low_rank.as_ref())?;
        let middle = affine(&attention.out, weight.values()?, bias.values()?, Some(&input));
        let statistics2 = layer_norm::statistics(&middle, channels, EPSILON);
        normalise(&self.norm2, &middle, &statistics2, &mut normal)?;
        let (weight, bias) = self.lin1.tensors();
        let hidden = affine(&normal, weight.values()?, bias.values()?, None);
        drop(normal);
        let mut active = vec![T::zero(); hidden.len()];
        gelu::forward(&hidden, &mut active);
        let (weight, bias) = self.lin2.tensors();
        let out = affine(&active, weight.values()?, bias.values()?, Some(&middle));
        let saved = Saved { input, statistics1, qkv, attention, middle, statistics2, hidden };
        Ok((out, saved))
    }

    /// Hands over the gradients of what is trained, given that of the output; the gradient of the
    /// input where it `is_asked` for.
    pub(super) fn backward<T: Real>(
        &self,
        windows: &Windows,
        saved: Saved<T>,
        mut grad: Vec<T>,
        is_asked: bool,
        sink: &Sink,
    ) -> Result<Vec<T>> {
        let channels = windows.channels();
        self.perceptron_backward(&saved, &mut grad, channels, sink)?;
        // From here on `grad` is that of the middle.
        let Saved { input, statistics1, qkv, attention, .. } = saved;
        if let Some(low_rank) = &self.proj_low_rank {
            low_rank.gradients(&grad, &attention.out, sink)?;
        }
        let out = &attention.out;
        if self.proj.weight.is_trained {
            self.proj.weight.put(sink, weight_gradient(&grad, out, channels))?;
        }
        if self.proj.bias.is_trained {
            self.proj.bias.put(sink, columns::sum(&grad, channels))?;
        }
        let weight = Weight::of(&self.proj, self.proj_low_rank.as_ref())?;
        let d_out = input_gradient(&grad, weight.values()?, channels);
        let tables = self.tables(windows)?;
        let bias = Borrowed::of(&self.qkv.bias.tensor);
        let inputs =
            Inputs { qkv: &qkv, padding: bias.values()?, positions: (&tables[0], &tables[1]) };
        let grads = attention::backward(windows, inputs, &attention, &d_out);
        drop((d_out, qkv, attention));
        self.tables_backward(windows, grads.positions, sink)?;
        if self.qkv.weight.is_trained || self.qkv_low_rank.is_some() {
            let mut normal = vec![T::zero(); input.len()];
            normalise(&self.norm1, &input, &statistics1, &mut normal)?;
            if let Some(low_rank) = &self.qkv_low_rank {
                low_rank.gradients(&grads.qkv, &normal, sink)?;
            }
            if self.qkv.weight.is_trained {
                let d_weight = weight_gradient(&grads.qkv, &normal, 3 * channels);
                self.qkv.weight.put(sink, d_weight)?;
            }
        }
        if self.qkv.bias.is_trained {
            let mut d_bias = columns::sum(&grads.qkv, 3 * channels);
            d_bias.iter_mut().zip(&grads.padding).for_each(|(sum, more)| *sum += *more);
            self.qkv.bias.put(sink, d_bias)?;
        }
        if is_asked || self.norm1.is_trained() {
            let weight = Weight::of(&self.qkv, self.qkv_low_rank.as_ref())?;
            let d_normal = input_gradient(&grads.qkv, weight.values()?, 3 * channels);
            norm_backward(&self.norm1, (&input, &statistics1), &d_normal, &mut grad, sink)?;
        }
        Ok(grad)
    }

    /// From the gradient of the output to that of the middle.
    fn perceptron_backward<T: Real>(
        &self,
        saved: &Saved<T>,
        grad: &mut [T],
        channels: usize,
        sink: &Sink,
    ) -> Result<()> {
        let (weight, _) = self.lin2.tensors();
        let mut d_hidden = input_gradient(grad, weight.values()?, channels);
        let mut active = vec![T::zero(); d_hidden.len()];
        gelu::forward_and_backward(&saved.hidden, &mut active, &mut d_hidden);
        layer_gradients(&self.lin2, grad, || Ok(active), sink)?;
        let normal = || {
            let mut normal = vec![T::zero(); saved.middle.len()];
            normalise(&self.norm2, &saved.middle, &saved.statistics2, &mut normal)?;
            Ok(normal)
        };
        layer_gradients(&self.lin1, &d_hidden, normal, sink)?;
        let (weight, bias) = self.lin1.tensors();
        let d_normal = input_gradient(&d_hidden, weight.values()?, bias.values::<T>()?.len());
        norm_backward(&self.norm2, (&saved.middle, &saved.statistics2), &d_normal, grad, sink)
    }

    /// Position tables at the size of the windows.
    fn tables<T: Real>(&self, windows: &Windows) -> Result<[Vec<T>; 2]> {
        let resized = |table: &Parameter, side: usize| -> Result<Vec<T>> {
            let values = Borrowed::of(&table.tensor);
            Ok(resize(table, side)?.forward(values.values::<T>()?, windows.head_size))
        };
        Ok([resized(&self.rel_pos.0, windows.height)?, resized(&self.rel_pos.1, windows.width)?])
    }

    fn tables_backward<T: Real>(
        &self,
        windows: &Windows,
        (down, across): (Vec<T>, Vec<T>),
        sink: &Sink,
    ) -> Result<()> {
        let sides =
            [(&self.rel_pos.0, windows.height, down), (&self.rel_pos.1, windows.width, across)];
        for (table, side, grad) in sides {
            if table.is_trained {
                table.put(sink, resize(table, side)?.backward(grad, windows.head_size))?;
            }
        }
        Ok(())
    }
}

fn resize(table: &Parameter, side: usize) -> Result<Resize> {
    Ok(Resize { from: table.tensor.dim(0)?, to: 2 * side - 1 })
}

/// A layer's weight, with what is added to it.
enum Weight<'a, T> {
    Plain(Borrowed<'a>),
    Merged(Vec<T>),
}

impl<'a, T: Real> Weight<'a, T> {
    fn of(layer: &'a Layer, low_rank: Option<&LowRank>) -> Result<Self> {
        let plain = Borrowed::of(&layer.weight.tensor);
        Ok(match low_rank {
            None => Self::Plain(plain),
            Some(low_rank) => Self::Merged(low_rank.merged(plain.values::<T>()?)?),
        })
    }

    fn values(&self) -> Result<&[T]> {
        match self {
            Self::Plain(plain) => plain.values::<T>(),
            Self::Merged(merged) => Ok(merged),
        }
    }
}

impl Layer {
    fn tensors(&self) -> (Borrowed<'_>, Borrowed<'_>) {
        (Borrowed::of(&self.weight.tensor), Borrowed::of(&self.bias.tensor))
    }

    fn is_trained(&self) -> bool {
        self.weight.is_trained || self.bias.is_trained
    }
}

fn normalise<T: Real>(norm: &Layer, x: &[T], statistics: &[(T, T)], out: &mut [T]) -> Result<()> {
    let (weight, bias) = norm.tensors();
    layer_norm::normalise(x, statistics, (weight.values()?, bias.values()?), out);
    Ok(())
}

/// Adds the gradient of what was normalised to `d_x`, and hands over those of scale and shift.
fn norm_backward<T: Real>(
    norm: &Layer,
    (x, statistics): (&[T], &[(T, T)]),
    grad: &[T],
    d_x: &mut [T],
    sink: &Sink,
) -> Result<()> {
    let weight = Borrowed::of(&norm.weight.tensor);
    let (d_weight, d_bias) = layer_norm::backward(x, statistics, weight.values()?, grad, d_x);
    if norm.weight.is_trained {
        norm.weight.put(sink, d_weight)?;
    }
    if norm.bias.is_trained {
        norm.bias.put(sink, d_bias)?;
    }
    Ok(())
}
