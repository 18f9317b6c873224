//! One convolution with its normalisation: its output, its statistics, and its gradients.

use candle_core::{DType, Result, Tensor};

use super::buffers::{Buffer, Buffers, Pooled};
use super::conv::{Convolution, Receiver, Wanted};
use super::rows::{Affine, Line, Outgoing, Source};
use super::sums::{Moments, Rectified, Sums};
use crate::nn::kernel::ops::{Borrowed, to_vec};
use crate::nn::layer::batch_norm::Statistics;
use crate::nn::layer::conv_norm::ConvNorm;
use crate::nn::tape::gradients::Gradients;
use crate::nn::tape::pass::Mode;

/// The output of a convolution and how it is normalised.
pub(super) struct Normalised<T> {
    pub(super) conv: Convolution,
    pub(super) z: Buffer<T>,
    pub(super) affine: Affine<T>,
    /// Mean of each channel, in the type of the values.
    pub(super) center: Vec<T>,
    statistics: Statistics,
    mode: Mode,
}

/// The size of a batch of rows: images, height, width.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    pub(super) images: usize,
    pub(super) height: usize,
    pub(super) width: usize,
}

impl<T: Pooled> Normalised<T> {
    /// Convolves `source` and takes the statistics.
    pub(super) fn forward(
        layer: &ConvNorm,
        source: Source<'_, T>,
        extent: Extent,
        mode: Mode,
        buffers: &Buffers<T>,
    ) -> Result<Self> {
        let (outputs, inputs, kernel, _) = layer.weight.dims4()?;
        let conv = Convolution {
            images: extent.images,
            height: extent.height,
            width: extent.width,
            inputs,
            outputs,
            kernel,
            stride: layer.stride,
            padding: layer.padding,
        };
        let mut z = buffers.take(conv.out_rows() * outputs);
        let weight = Borrowed::of(&layer.weight);
        let is_training = mode == Mode::Train;
        let parts = conv.forward(source, weight.values::<T>()?, &mut z, buffers, is_training);
        let statistics = if is_training {
            let Moments { rows, mean, squares } = Moments::merge(&parts);
            let variance = squares.into_iter().map(|squares| squares / rows as f64).collect();
            let statistics = Statistics { mean, variance };
            layer.norm.follow(rows, &statistics)?;
            statistics
        } else {
            layer.norm.running()?
        };
        let (scale, shift) = (wide(&layer.norm.weight)?, wide(&layer.norm.bias)?);
        let slope: Vec<f64> = scale.iter().zip(statistics.inverse()).map(|(s, i)| s * i).collect();
        let offset = shift.iter().zip(&slope).zip(&statistics.mean).map(|((b, s), m)| b - m * s);
        let affine = Affine {
            offset: offset.map(T::from_f64).collect(),
            slope: slope.into_iter().map(T::from_f64).collect(),
        };
        let center = statistics.mean.iter().map(|mean| T::from_f64(*mean)).collect();
        Ok(Self { conv, z, affine, center, statistics, mode })
    }

    /// The size of the output.
    pub(super) fn extent(&self) -> Extent {
        let Convolution { images, .. } = self.conv;
        Extent { images, height: self.conv.out_height(), width: self.conv.out_width() }
    }

    /// The source through which the layer after it reads the output.
    pub(super) fn rectified_source(&self) -> Source<'_, T> {
        Source { values: &self.z, through: Some(&self.affine) }
    }

    /// The rectified value that was so read, as it is differentiated.
    pub(super) fn rectified(&self) -> Rectified<'_, T> {
        Rectified { z: &self.z, affine: &self.affine, center: &self.center }
    }

    /// Goes back through the normalisation and the convolution. `g` is the gradient of the
    /// normalised output and `sums` are `Σ g` and `Σ g (z − mean)`. With `n = (z − mean) inverse`
    /// and `m` values a channel: `dshift = Σ g`, `dscale = Σ g n`,
    /// `dz = scale inverse (g − dshift / m − n dscale / m)`, without the last two terms when the
    /// statistics are not those of `z`.
    pub(super) fn backward(
        &self,
        layer: &ConvNorm,
        (g, sums): (&[T], &Sums),
        source: Source<'_, T>,
        input: Option<Receiver<'_, T>>,
        gradients: &mut Gradients,
        buffers: &Buffers<T>,
    ) -> Result<Sums> {
        let inverse = self.statistics.inverse();
        let scale = wide(&layer.norm.weight)?;
        let along: Vec<f64> = sums.second.iter().zip(&inverse).map(|(s, i)| s * i).collect();
        let device = layer.weight.device();
        for (of, values) in [(&layer.of_scale, &along), (&layer.of_shift, &sums.first)] {
            if of.is_trained {
                let gradient = Tensor::from_slice(values, values.len(), device)?;
                gradients.insert(of.name.clone(), gradient.to_dtype(T::DTYPE)?);
            }
        }
        let narrow = |values: Vec<f64>| values.into_iter().map(T::from_f64).collect::<Vec<T>>();
        let a: Vec<f64> =
            scale.iter().zip(&inverse).map(|(scale, inverse)| scale * inverse).collect();
        let rest = (self.mode == Mode::Train).then(|| {
            let count = self.conv.out_rows() as f64;
            let each = 0..a.len();
            let b: Vec<f64> =
                each.clone().map(|at| -a[at] * along[at] * inverse[at] / count).collect();
            let c =
                each.map(|at| -b[at] * self.statistics.mean[at] - a[at] * sums.first[at] / count);
            let c = c.collect();
            (narrow(b), narrow(c))
        });
        let line = Line { a: narrow(a), rest };
        let channels = self.conv.outputs;
        let outgoing = Outgoing { g, z: &self.z, channels, line: Some(&line) };
        let weight = Borrowed::of(&layer.weight);
        let mut d_weight = layer.of_weight.is_trained.then(|| vec![T::zero(); self.conv.weights()]);
        let wanted = Wanted { weight: d_weight.as_deref_mut(), input };
        let parts = self.conv.backward(source, weight.values::<T>()?, outgoing, wanted, buffers);
        if let Some(d_weight) = d_weight {
            let gradient = Tensor::from_vec(d_weight, layer.weight.shape(), device)?;
            gradients.insert(layer.of_weight.name.clone(), gradient);
        }
        Ok(Sums::total(&parts))
    }
}

fn wide(tensor: &Tensor) -> Result<Vec<f64>> {
    to_vec::<f64>(&tensor.to_dtype(DType::F64)?)
}
