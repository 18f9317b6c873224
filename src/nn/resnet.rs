//! Residual networks with torchvision's names and numbers (He et al. 2016, stride on the 3x3).

use candle_core::{Result, Tensor, bail};

use super::Gradients;
use super::conv_norm::{Activation, ConvNorm};
use super::encoder::{Features, Mode};
use super::engine::{self, Kind, Pools, Setting};
use super::ops::{add_relu, global_average_pool};
use super::params::Params;
use super::pool::max_pool2d;
use super::sink::Sink;
use crate::domain::Architecture;

/// The shape of a residual network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Blocks of each of the four stages.
    pub blocks: [usize; 4],
    /// Three convolutions a block (1x1, 3x3, 1x1) instead of two 3x3 ones.
    pub bottleneck: bool,
}

impl Layout {
    /// The layout of an architecture, if it is a residual network.
    pub fn of(architecture: Architecture) -> Option<Self> {
        let (blocks, bottleneck) = match architecture {
            Architecture::Resnet18 => ([2, 2, 2, 2], false),
            Architecture::Resnet34 => ([3, 4, 6, 3], false),
            Architecture::Resnet50 => ([3, 4, 6, 3], true),
            Architecture::Resnet101 => ([3, 4, 23, 3], true),
            Architecture::Resnet152 => ([3, 8, 36, 3], true),
            Architecture::SamVitB => return None,
        };
        Some(Self { blocks, bottleneck })
    }

    /// Output channels over inner channels of a block.
    pub fn expansion(&self) -> usize {
        if self.bottleneck { 4 } else { 1 }
    }

    /// The blocks in order, with their channels and strides.
    pub fn each_block(&self) -> Vec<BlockLayout> {
        let mut blocks = Vec::new();
        let mut input = 64;
        for (stage, count) in self.blocks.into_iter().enumerate() {
            let inner = 64 << stage;
            for block in 0..count {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                let output = inner * self.expansion();
                blocks.push(BlockLayout {
                    prefix: format!("layer{}.{block}", stage + 1),
                    input,
                    inner,
                    output,
                    stride,
                    bottleneck: self.bottleneck,
                });
                input = output;
            }
        }
        blocks
    }
}

/// One residual block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockLayout {
    /// Start of its tensors' names, such as `layer1.0`.
    pub prefix: String,
    /// Channels in.
    pub input: usize,
    /// Channels between its convolutions.
    pub inner: usize,
    /// Channels out.
    pub output: usize,
    /// Stride of its 3x3 convolution (the first one of a basic block).
    pub stride: usize,
    /// Whether it has three convolutions.
    pub bottleneck: bool,
}

impl BlockLayout {
    /// Its convolutions on the main path: `(number, in, out, kernel, stride)`.
    pub fn convolutions(&self) -> Vec<(usize, usize, usize, usize, usize)> {
        let Self { input, inner, output, stride, .. } = *self;
        if self.bottleneck {
            vec![(1, input, inner, 1, 1), (2, inner, inner, 3, stride), (3, inner, output, 1, 1)]
        } else {
            vec![(1, input, inner, 3, stride), (2, inner, output, 3, 1)]
        }
    }

    /// Whether its shortcut is a convolution.
    pub fn has_downsample(&self) -> bool {
        self.stride != 1 || self.input != self.output
    }
}

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

#[derive(Debug, Clone)]
pub(super) struct Block {
    pub(super) main: Vec<ConvNorm>,
    pub(super) shortcut: Option<ConvNorm>,
}

impl ResNet {
    /// The network over `params`, which keep its values.
    pub fn new(architecture: Architecture, params: &Params) -> Result<Self> {
        let stem = ConvNorm::new(params, ("conv1", "bn1"), 2, 3)?;
        let Some(layout) = Layout::of(architecture) else {
            bail!("{architecture} is no residual network");
        };
        let mut blocks = layout.each_block().into_iter();
        let stage =
            |count| blocks.by_ref().take(count).map(|layout| Block::new(params, &layout)).collect();
        let stages = layout.blocks.into_iter().map(stage).collect::<Result<_>>()?;
        Ok(Self { stem, stages, pools: Pools::default(), sink: Sink::default() })
    }

    /// What enters the last `stages` stages for a batch of pictures `[N, 3, H, W]`.
    pub fn trunk(&self, images: &Tensor, stages: usize, kind: Kind, mode: Mode) -> Result<Tensor> {
        let blocks = &self.stages[..self.stages.len().saturating_sub(stages)];
        if images.device().is_cpu() && !images.track_op() {
            return self.run(images, Some(&self.stem), blocks, kind, mode);
        }
        let stem = self.stem.forward(images, mode, Activation::Relu)?;
        through(blocks, max_pool2d(&stem, 3, 2, 1)?, mode)
    }

    /// Features from what enters the last `stages` stages.
    pub fn tail(
        &self,
        activations: &Tensor,
        stages: usize,
        kind: Kind,
        mode: Mode,
    ) -> Result<Features> {
        let blocks = &self.stages[self.stages.len().saturating_sub(stages)..];
        let x = match blocks {
            [] => activations.clone(),
            _ if activations.device().is_cpu() => {
                self.run(activations, None, blocks, kind, mode)?
            }
            _ => through(blocks, activations.clone(), mode)?,
        };
        Ok(Features { embedding: global_average_pool(&x)?, feature_map: x })
    }

    /// Features of a batch of pictures by operators that every device has. Gradients of the
    /// parameters are found in candle's graph then.
    pub fn composed(&self, images: &Tensor, mode: Mode) -> Result<Features> {
        let stem = self.stem.forward(images, mode, Activation::Relu)?;
        let x = through(&self.stages, max_pool2d(&stem, 3, 2, 1)?, mode)?;
        Ok(Features { embedding: global_average_pool(&x)?, feature_map: x })
    }

    /// The gradients that ways back left since they were last taken.
    pub(super) fn take_gradients(&self) -> Gradients {
        self.sink.take()
    }

    fn run(
        &self,
        x: &Tensor,
        stem: Option<&ConvNorm>,
        stages: &[Vec<Block>],
        kind: Kind,
        mode: Mode,
    ) -> Result<Tensor> {
        let blocks: Vec<&Block> = stages.iter().flatten().collect();
        let setting = Setting { mode, pools: self.pools.clone(), sink: self.sink.clone() };
        engine::run(x, (stem, &blocks), &setting, kind)
    }
}

fn through(stages: &[Vec<Block>], mut x: Tensor, mode: Mode) -> Result<Tensor> {
    for block in stages.iter().flatten() {
        x = block.forward(&x, mode)?;
    }
    Ok(x)
}

impl Block {
    fn new(params: &Params, layout: &BlockLayout) -> Result<Self> {
        let prefix = &layout.prefix;
        let layer = |(number, _, _, kernel, stride): (usize, usize, usize, usize, usize)| {
            let (conv, norm) = (format!("{prefix}.conv{number}"), format!("{prefix}.bn{number}"));
            ConvNorm::new(params, (&conv, &norm), stride, kernel / 2)
        };
        let main = layout.convolutions().into_iter().map(layer).collect::<Result<_>>()?;
        let (conv, norm) = (format!("{prefix}.downsample.0"), format!("{prefix}.downsample.1"));
        let shortcut = layout
            .has_downsample()
            .then(|| ConvNorm::new(params, (&conv, &norm), layout.stride, 0))
            .transpose()?;
        Ok(Self { main, shortcut })
    }

    /// Whether any of its parameters is trained.
    pub(super) fn is_trained(&self) -> bool {
        self.main.iter().chain(&self.shortcut).any(ConvNorm::is_trained)
    }

    fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let mut main = x.clone();
        for (at, layer) in self.main.iter().enumerate() {
            let is_last = at + 1 == self.main.len();
            let activation = if is_last { Activation::None } else { Activation::Relu };
            main = layer.forward(&main, mode, activation)?;
        }
        match &self.shortcut {
            Some(layer) => add_relu(&main, &layer.forward(x, mode, Activation::None)?),
            None => add_relu(&main, x),
        }
    }
}
