//! A residual network without its classifier, as one operator on the CPU.

use candle_core::{Result, Tensor};

use super::block::Block;
use super::engine::buffers::Pools;
use super::engine::stretch::{Setting, run};
use super::layout::Layout;
use crate::nn::backbone::network::{Network, Way};
use crate::nn::kernel::ops::global_average_pool;
use crate::nn::layer::conv_norm::{Activation, ConvNorm};
use crate::nn::layer::pool::max_pool2d;
use crate::nn::tape::gradients::Gradients;
use crate::nn::tape::params::Params;
use crate::nn::tape::pass::{Features, Mode};
use crate::nn::tape::sink::Sink;

/// A residual network without its classifier.
///
/// On the CPU its stem and blocks are one operator of their own ([`super::engine`]); elsewhere, and
/// in [`ResNet::composed`], a composition of smaller ones.
#[derive(Debug, Clone)]
pub struct ResNet {
    stem: ConvNorm,
    /// Blocks of each stage.
    stages: Vec<Vec<Block>>,
    pools: Pools,
    sink: Sink,
}

impl ResNet {
    /// The network over `params`, which keep its values.
    pub fn new(layout: &Layout, params: &Params) -> Result<Self> {
        let stem = ConvNorm::new(params, ("conv1", "bn1"), 2, 3)?;
        let mut blocks = layout.each_block().into_iter();
        let stage =
            |count| blocks.by_ref().take(count).map(|layout| Block::new(params, &layout)).collect();
        let stages = layout.blocks.into_iter().map(stage).collect::<Result<_>>()?;
        Ok(Self { stem, stages, pools: Pools::default(), sink: Sink::default() })
    }

    /// Features of a batch of pictures by operators that every device has. Gradients of the
    /// parameters are found in candle's graph then.
    pub fn composed(&self, images: &Tensor, mode: Mode) -> Result<Features> {
        let stem = self.stem.forward(images, mode, Activation::Relu)?;
        let x = through(&self.stages, max_pool2d(&stem, 3, 2, 1)?, mode)?;
        Ok(Features { embedding: global_average_pool(&x)?, feature_map: x })
    }

    fn run(
        &self,
        x: &Tensor,
        stem: Option<&ConvNorm>,
        stages: &[Vec<Block>],
        way: Way,
    ) -> Result<Tensor> {
        let blocks: Vec<&Block> = stages.iter().flatten().collect();
        let setting =
            Setting { mode: way.mode, pools: self.pools.clone(), sink: self.sink.clone() };
        run(x, (stem, &blocks), &setting, way.pass)
    }
}

impl Network for ResNet {
    fn trunk(&self, images: &Tensor, stages: usize, way: Way) -> Result<Tensor> {
        let blocks = &self.stages[..self.stages.len().saturating_sub(stages)];
        if images.device().is_cpu() && !images.track_op() {
            return self.run(images, Some(&self.stem), blocks, way);
        }
        let stem = self.stem.forward(images, way.mode, Activation::Relu)?;
        through(blocks, max_pool2d(&stem, 3, 2, 1)?, way.mode)
    }

    fn tail(&self, activations: &Tensor, stages: usize, way: Way) -> Result<Features> {
        let blocks = &self.stages[self.stages.len().saturating_sub(stages)..];
        let x = match blocks {
            [] => activations.clone(),
            _ if activations.device().is_cpu() => self.run(activations, None, blocks, way)?,
            _ => through(blocks, activations.clone(), way.mode)?,
        };
        Ok(Features { embedding: global_average_pool(&x)?, feature_map: x })
    }

    fn take_gradients(&self) -> Gradients {
        self.sink.take()
    }
}

fn through(stages: &[Vec<Block>], mut x: Tensor, mode: Mode) -> Result<Tensor> {
    for block in stages.iter().flatten() {
        x = block.forward(&x, mode)?;
    }
    Ok(x)
}
