//! Residual networks with torchvision's names and numbers (He et al. 2016, stride on the 3x3).

use candle_core::{Result, Tensor, bail};

use super::batch_norm::BatchNorm;
use super::conv_norm::{Activation, conv_norm};
use super::encoder::{Features, Mode};
use super::ops::{add_relu, global_average_pool};
use super::params::Params;
use super::pool::max_pool2d;
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
#[derive(Debug, Clone)]
pub struct ResNet {
    stem: ConvNorm,
    /// Blocks of each stage.
    stages: Vec<Vec<Block>>,
}

/// A convolution and its normalisation.
#[derive(Debug, Clone)]
struct ConvNorm {
    weight: Tensor,
    stride: usize,
    padding: usize,
    norm: BatchNorm,
}

#[derive(Debug, Clone)]
struct Block {
    main: Vec<ConvNorm>,
    shortcut: Option<ConvNorm>,
}

impl ResNet {
    /// The network over `params`, which keep its values.
    pub fn new(architecture: Architecture, params: &Params) -> Result<Self> {
        let stem = ConvNorm::new(params, "conv1", "bn1", 2, 3)?;
        let block = |layout: BlockLayout| -> Result<Block> {
            let prefix = &layout.prefix;
            let main = layout
                .convolutions()
                .into_iter()
                .map(|(number, _, _, kernel, stride)| {
                    let (conv, norm) =
                        (format!("{prefix}.conv{number}"), format!("{prefix}.bn{number}"));
                    ConvNorm::new(params, &conv, &norm, stride, kernel / 2)
                })
                .collect::<Result<_>>()?;
            let shortcut = if layout.has_downsample() {
                let (conv, norm) =
                    (format!("{prefix}.downsample.0"), format!("{prefix}.downsample.1"));
                Some(ConvNorm::new(params, &conv, &norm, layout.stride, 0)?)
            } else {
                None
            };
            Ok(Block { main, shortcut })
        };
        let Some(layout) = Layout::of(architecture) else {
            bail!("{architecture} is no residual network");
        };
        let mut blocks = layout.each_block().into_iter();
        let stage = |count| blocks.by_ref().take(count).map(block).collect::<Result<_>>();
        let stages = layout.blocks.into_iter().map(stage).collect::<Result<_>>()?;
        Ok(Self { stem, stages })
    }

    /// What enters the last `stages` stages for a batch of pictures `[N, 3, H, W]`.
    pub fn trunk(&self, images: &Tensor, stages: usize, mode: Mode) -> Result<Tensor> {
        let stem = self.stem.forward(images, mode, Activation::Relu)?;
        let before = self.stages.len().saturating_sub(stages);
        through(&self.stages[..before], max_pool2d(&stem, 3, 2, 1)?, mode)
    }

    /// Features from what enters the last `stages` stages.
    pub fn tail(&self, activations: &Tensor, stages: usize, mode: Mode) -> Result<Features> {
        let before = self.stages.len().saturating_sub(stages);
        let x = through(&self.stages[before..], activations.clone(), mode)?;
        Ok(Features { embedding: global_average_pool(&x)?, feature_map: x })
    }
}

fn through(stages: &[Vec<Block>], mut x: Tensor, mode: Mode) -> Result<Tensor> {
    for block in stages.iter().flatten() {
        x = block.forward(&x, mode)?;
    }
    Ok(x)
}

impl Block {
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

impl ConvNorm {
    fn new(params: &Params, conv: &str, norm: &str, stride: usize, padding: usize) -> Result<Self> {
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
        })
    }

    fn forward(&self, x: &Tensor, mode: Mode, activation: Activation) -> Result<Tensor> {
        let shape = (self.stride, self.padding);
        conv_norm(x, &self.weight, shape, &self.norm, mode, activation)
    }
}
