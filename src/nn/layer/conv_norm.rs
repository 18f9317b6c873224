//! A convolution and its batch normalisation: the parameters of one layer of a residual network.

use candle_core::{Result, Tensor};

use crate::nn::kernel::ops::relu;
use crate::nn::layer::batch_norm::BatchNorm;
use crate::nn::layer::conv::conv2d;
use crate::nn::tape::params::Params;
use crate::nn::tape::pass::Mode;

/// The function that follows the normalisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    None,
    /// `max(y, 0)`.
    Relu,
}

/// A parameter's name, and whether it is trained.
#[derive(Debug, Clone)]
pub(in crate::nn) struct Trained {
    pub(in crate::nn) name: String,
    pub(in crate::nn) is_trained: bool,
}

/// One layer: `activation(norm(conv(x)))`.
#[derive(Debug, Clone)]
pub struct ConvNorm {
    pub(in crate::nn) weight: Tensor,
    pub(in crate::nn) stride: usize,
    pub(in crate::nn) padding: usize,
    pub(in crate::nn) norm: BatchNorm,
    /// The convolution's weight.
    pub(in crate::nn) of_weight: Trained,
    /// The normalisation's scale.
    pub(in crate::nn) of_scale: Trained,
    /// The normalisation's shift.
    pub(in crate::nn) of_shift: Trained,
}

impl ConvNorm {
    /// The layer over the parameters `<conv>.weight` and `<norm>.*`.
    pub fn new(
        params: &Params,
        (conv, norm): (&str, &str),
        stride: usize,
        padding: usize,
    ) -> Result<Self> {
        let trained = |name: String| Trained { is_trained: params.is_trainable(&name), name };
        Ok(Self {
            weight: params.tensor(&format!("{conv}.weight"))?,
            stride,
            padding,
            norm: BatchNorm {
                weight: params.tensor(&format!("{norm}.weight"))?,
                bias: params.tensor(&format!("{norm}.bias"))?,
                running_mean: params.get(&format!("{norm}.running_mean"))?.clone(),
                running_var: params.get(&format!("{norm}.running_var"))?.clone(),
            },
            of_weight: trained(format!("{conv}.weight")),
            of_scale: trained(format!("{norm}.weight")),
            of_shift: trained(format!("{norm}.bias")),
        })
    }

    /// Whether any of its parameters is trained.
    pub(in crate::nn) fn is_trained(&self) -> bool {
        [&self.of_weight, &self.of_scale, &self.of_shift].iter().any(|one| one.is_trained)
    }

    /// The layer as a composition of operators, on any device.
    pub fn forward(&self, x: &Tensor, mode: Mode, activation: Activation) -> Result<Tensor> {
        let y = self.norm.forward(&conv2d(x, &self.weight, self.stride, self.padding)?, mode)?;
        match activation {
            Activation::None => Ok(y),
            Activation::Relu => relu(&y),
        }
    }
}
