//! The tensors of a transformer's layers, each with its name and whether it is trained.

use candle_core::{Device, Result, Tensor, WithDType};

use super::layout::Layout;
use crate::nn::lora::{DOWN, PROJ_PARTS, QKV_PARTS, UP};
use crate::nn::params::Params;
use crate::nn::sink::Sink;

/// One tensor of a network.
#[derive(Debug, Clone)]
pub(super) struct Parameter {
    pub(super) name: String,
    pub(super) tensor: Tensor,
    pub(super) is_trained: bool,
}

impl Parameter {
    pub(super) fn new(params: &Params, name: String) -> Result<Self> {
        let tensor = params.tensor(&name)?.contiguous()?;
        Ok(Self { is_trained: params.is_trainable(&name), tensor, name })
    }

    /// Hands over its gradient.
    pub(super) fn put<T: WithDType>(&self, sink: &Sink, values: Vec<T>) -> Result<()> {
        let gradient = Tensor::from_vec(values, self.tensor.shape(), &Device::Cpu)?;
        sink.put(&self.name, gradient)
    }
}

/// A layer with a weight and a bias, or a scale and a shift.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    pub(super) weight: Parameter,
    pub(super) bias: Parameter,
}

impl Layer {
    pub(super) fn new(params: &Params, name: &str) -> Result<Self> {
        let of = |end: &str| Parameter::new(params, format!("{name}.{end}"));
        Ok(Self { weight: of("weight")?, bias: of("bias")? })
    }
}

/// What is added to parts of a layer's weight, in two factors of rank `r`: `down` `[P r, inputs]`
/// and `up` `[P size, r]` for `P` parts of `size` outputs.
#[derive(Debug, Clone)]
pub(super) struct LowRank {
    pub(super) down: Parameter,
    pub(super) up: Parameter,
    /// The parts, counted from the first output.
    pub(super) parts: Vec<usize>,
    /// What the product of the factors is multiplied with.
    pub(super) scale: f64,
}

impl LowRank {
    /// That of the layer of this name, if the weights have one.
    fn new(params: &Params, name: &str, parts: &[usize]) -> Result<Option<Self>> {
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
    pub(super) fn set_alpha(&mut self, alpha: f64) -> Result<()> {
        self.scale = alpha / self.up.tensor.dim(1)? as f64;
        Ok(())
    }
}

/// The tensors of one block.
#[derive(Debug, Clone)]
pub(super) struct Block {
    pub(super) norm1: Layer,
    pub(super) qkv: Layer,
    pub(super) qkv_low_rank: Option<LowRank>,
    pub(super) rel_pos: (Parameter, Parameter),
    pub(super) proj: Layer,
    pub(super) proj_low_rank: Option<LowRank>,
    pub(super) norm2: Layer,
    pub(super) lin1: Layer,
    pub(super) lin2: Layer,
    /// Whether it attends over the whole map.
    pub(super) is_global: bool,
}

impl Block {
    pub(super) fn new(params: &Params, layout: &Layout, block: usize) -> Result<Self> {
        let name = |layer: &str| format!("blocks.{block}.{layer}");
        let layer = |end: &str| Layer::new(params, &name(end));
        let (qkv, proj) = (name("attn.qkv"), name("attn.proj"));
        Ok(Self {
            norm1: layer("norm1")?,
            qkv: layer("attn.qkv")?,
            qkv_low_rank: LowRank::new(params, &qkv, &QKV_PARTS)?,
            rel_pos: (
                Parameter::new(params, name("attn.rel_pos_h"))?,
                Parameter::new(params, name("attn.rel_pos_w"))?,
            ),
            proj: layer("attn.proj")?,
            proj_low_rank: LowRank::new(params, &proj, &PROJ_PARTS)?,
            norm2: layer("norm2")?,
            lin1: layer("mlp.lin1")?,
            lin2: layer("mlp.lin2")?,
            is_global: layout.global.contains(&block),
        })
    }

    fn each(&self) -> impl Iterator<Item = &Parameter> {
        let layers =
            [&self.norm1, &self.qkv, &self.proj, &self.norm2, &self.lin1, &self.lin2].into_iter();
        let low_rank = [&self.qkv_low_rank, &self.proj_low_rank].into_iter().flatten();
        layers
            .flat_map(|layer| [&layer.weight, &layer.bias])
            .chain([&self.rel_pos.0, &self.rel_pos.1])
            .chain(low_rank.flat_map(|layer| [&layer.down, &layer.up]))
    }

    /// Whether anything of it is trained.
    pub(super) fn is_trained(&self) -> bool {
        self.each().any(|parameter| parameter.is_trained)
    }
}
