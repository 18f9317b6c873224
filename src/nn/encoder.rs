//! A backbone of any architecture: features forward, gradients backward, cut where training begins.

use candle_core::{Result, Tensor, bail};

use super::engine::Kind;
use super::vit::{self, Vit};
use super::{Gradients, Params, ResNet};
use crate::domain::Architecture;

/// Which statistics batch normalisation uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Those of the batch; the running ones follow.
    Train,
    /// The running ones, unchanged; gradients flow all the same.
    Frozen,
}

/// Below this many training images the batch statistics are too noisy to follow.
const IMAGES_FOR_BATCH_STATISTICS: usize = 256;

impl Mode {
    /// The mode to train in: the pretrained statistics stay when there are few images.
    pub fn for_images(images: usize) -> Self {
        if images < IMAGES_FOR_BATCH_STATISTICS { Self::Frozen } else { Self::Train }
    }
}

/// What a backbone makes of a batch.
#[derive(Debug, Clone)]
pub struct Features {
    /// Mean over positions of the last stage's output (of a transformer's last tokens), `[N, D]`.
    pub embedding: Tensor,
    /// Output of the last stage, `[N, D, H / 32, W / 32]`, or of a transformer's neck,
    /// `[N, 256, H / 16, W / 16]`.
    pub feature_map: Tensor,
}

/// A backbone over parameters that it shares.
#[derive(Debug, Clone)]
pub enum Encoder {
    /// A residual network.
    ResNet(ResNet),
    /// A vision transformer.
    Vit(Vit),
}

impl Encoder {
    /// The network over `params`, which keep its values.
    pub fn new(architecture: Architecture, params: &Params) -> Result<Self> {
        match architecture {
            Architecture::Resnet18
            | Architecture::Resnet34
            | Architecture::Resnet50
            | Architecture::Resnet101
            | Architecture::Resnet152 => Ok(Self::ResNet(ResNet::new(architecture, params)?)),
            Architecture::SamVitB => match vit::Layout::of(architecture) {
                Some(layout) => Ok(Self::Vit(Vit::new(&layout, params)?)),
                None => bail!("{architecture} is no transformer"),
            },
        }
    }

    /// Weighs low-rank factors that the parameters have by `alpha` over their rank; without this
    /// `alpha` is the rank. Networks without such factors stay as they are.
    pub fn with_alpha(self, alpha: f64) -> Result<Self> {
        match self {
            Self::ResNet(_) => Ok(self),
            Self::Vit(network) => Ok(Self::Vit(network.with_alpha(alpha)?)),
        }
    }

    /// Features of a batch of pictures `[N, 3, H, W]`, with a way back to what is trained.
    pub fn forward(&self, images: &Tensor, mode: Mode) -> Result<Features> {
        self.tail(&self.trunk(images, 0, mode)?, 0, mode)
    }

    /// The same features on running statistics without a way back: less memory, nothing kept.
    pub fn infer(&self, images: &Tensor) -> Result<Features> {
        let (kind, mode) = (Kind::Inference, Mode::Frozen);
        let Features { embedding, feature_map } = match self {
            Self::ResNet(network) => {
                network.tail(&network.trunk(&images.detach(), 0, kind, mode)?, 0, kind, mode)?
            }
            Self::Vit(network) => {
                network.tail(&network.trunk(&images.detach(), 0, kind)?, 0, kind)?
            }
        };
        Ok(Features { embedding: embedding.detach(), feature_map: feature_map.detach() })
    }

    /// What enters the last `stages` stages (blocks of a transformer) for a batch of pictures
    /// `[N, 3, H, W]`; with [`Self::tail`] the whole network.
    pub fn trunk(&self, images: &Tensor, stages: usize, mode: Mode) -> Result<Tensor> {
        match self {
            Self::ResNet(network) => network.trunk(images, stages, Kind::Training, mode),
            Self::Vit(network) => network.trunk(images, stages, Kind::Training),
        }
    }

    /// Features from what enters the last `stages` stages.
    pub fn tail(&self, activations: &Tensor, stages: usize, mode: Mode) -> Result<Features> {
        match self {
            Self::ResNet(network) => network.tail(activations, stages, Kind::Training, mode),
            Self::Vit(network) => network.tail(activations, stages, Kind::Training),
        }
    }

    /// Gradients of `loss`, which was computed from this network's features, for everything
    /// trainable in `params`, the head included.
    pub fn backward(&self, loss: &Tensor, params: &Params) -> Result<Gradients> {
        let mut gradients = Gradients::from_store(params, &loss.backward()?);
        match self {
            Self::ResNet(network) => gradients.add(network.take_gradients())?,
            Self::Vit(network) => gradients.add(network.take_gradients())?,
        }
        Ok(gradients)
    }
}
