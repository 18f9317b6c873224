//! The tensors of a block.

use candle_core::Result;

use super::layout::Layout;
use crate::nn::layer::linear::parameters::{Layer, LowRank, Parameter};
use crate::nn::layer::lora::{PROJ_PARTS, QKV_PARTS};
use crate::nn::tape::params::Params;

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
