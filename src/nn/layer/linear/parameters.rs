//! The tensors of linear layers, each with its name and whether it is trained.

use candle_core::{Device, Result, Tensor, WithDType};

use crate::nn::layer::lora::{DOWN, UP};
use crate::nn::tape::params::Params;
use crate::nn::tape::sink::Sink;

/// One tensor of a network.
#[derive(Debug, Clone)]
pub(in crate::nn) struct Parameter {
    pub(in crate::nn) name: String,
    pub(in crate::nn) tensor: Tensor,
    pub(in crate::nn) is_trained: bool,
}

impl Parameter {
    pub(in crate::nn) fn new(params: &Params, name: String) -> Result<Self> {
        let tensor = params.tensor(&name)?.contiguous()?;
        Ok(Self { is_trained: params.is_trainable(&name), tensor, name })
    }

    /// Hands over its gradient.
    pub(in crate::nn) fn put<T: WithDType>(&self, sink: &Sink, values: Vec<T>) -> Result<()> {
        let gradient = Tensor::from_vec(values, self.tensor.shape(), &Device::Cpu)?;
        sink.put(&self.name, gradient)
    }
}

/// A layer with a weight and a bias, or a scale and a shift.
#[derive(Debug, Clone)]
pub(in crate::nn) struct Layer {
    pub(in crate::nn) weight: Parameter,
    pub(in crate::nn) bias: Parameter,
}

impl Layer {
    pub(in crate::nn) fn new(params: &Params, name: &str) -> Result<Self> {
        let of = |end: &str| Parameter::new(params, format!("{name}.{end}"));
        Ok(Self { weight: of("weight")?, bias: of("bias")? })
    }
}

/// The values that are added to parts of a layer's weight, in two factors of rank `r`: `down`
/// `[P r, inputs]` and `up` `[P size, r]` for `P` parts of `size` outputs.
#[derive(Debug, Clone)]
pub(in crate::nn) struct LowRank {
    pub(in crate::nn) down: Parameter,
    pub(in crate::nn) up: Parameter,
    /// The parts, counted from the first output.
    pub(in crate::nn) parts: Vec<usize>,
    /// The factor that the product of the factors is multiplied with.
    pub(in crate::nn) scale: f64,
}

impl LowRank {
    /// That of the layer of this name, if the weights have one.
    pub(in crate::nn) fn new(params: &Params, name: &str, parts: &[usize]) -> Result<Option<Self>> {
        let (down, up) = (format!("{name}{DOWN}"), format!("{name}{UP}"));
        if params.get(&down).is_err() {
            return Ok(None);
        }
        Ok(Some(Self {
            down: Parameter::new(params, down)?,
            up: Parameter::new(params, up)?,
            parts: parts.to_vec(),
            scale: 1.0,
        }))
    }

    /// Sets the scale from `alpha`: `alpha / r`.
    pub(in crate::nn) fn set_alpha(&mut self, alpha: f64) -> Result<()> {
        self.scale = alpha / self.up.tensor.dim(1)? as f64;
        Ok(())
    }
}
