//! A backbone of any architecture: features forward, gradients backward, cut where training begins.

use candle_core::{Result, Tensor};

use crate::nn::backbone::architecture::Architecture;
use crate::nn::backbone::network::{Network, Way};
use crate::nn::tape::gradients::Gradients;
use crate::nn::tape::params::Params;
use crate::nn::tape::pass::{Features, Mode, Pass};

/// A backbone over parameters that it shares.
#[derive(Debug)]
pub struct Encoder(Box<dyn Network>);

impl From<Box<dyn Network>> for Encoder {
    fn from(network: Box<dyn Network>) -> Self {
        Self(network)
    }
}

impl Encoder {
    /// The network over `params`, which keep its values.
    pub fn new(architecture: Architecture, params: &Params) -> Result<Self> {
        Ok(Self(architecture.family().build(params, None)?))
    }

    /// The same whose low-rank factors weigh `alpha` over their rank; without this `alpha` is the rank.
    pub fn with_alpha(architecture: Architecture, params: &Params, alpha: f64) -> Result<Self> {
        Ok(Self(architecture.family().build(params, Some(alpha))?))
    }

    /// Features of a batch of pictures `[N, 3, H, W]` for a backward pass to what is trained.
    pub fn forward(&self, images: &Tensor, mode: Mode) -> Result<Features> {
        self.tail(&self.trunk(images, 0, mode)?, 0, mode)
    }

    /// The same features on running statistics without a backward pass: less memory, nothing kept.
    pub fn infer(&self, images: &Tensor) -> Result<Features> {
        let way = Way { pass: Pass::Inference, mode: Mode::Frozen };
        let entered = self.0.trunk(&images.detach(), 0, way)?;
        let Features { embedding, feature_map } = self.0.tail(&entered, 0, way)?;
        Ok(Features { embedding: embedding.detach(), feature_map: feature_map.detach() })
    }

    /// The input of the last `stages` stages (blocks of a transformer) for a batch of pictures
    /// `[N, 3, H, W]`; with [`Self::tail`] the whole network.
    pub fn trunk(&self, images: &Tensor, stages: usize, mode: Mode) -> Result<Tensor> {
        self.0.trunk(images, stages, Way { pass: Pass::Training, mode })
    }

    /// Features from what enters the last `stages` stages.
    pub fn tail(&self, activations: &Tensor, stages: usize, mode: Mode) -> Result<Features> {
        self.0.tail(activations, stages, Way { pass: Pass::Training, mode })
    }

    /// Gradients of `loss`, which was computed from this network's features, for everything
    /// trainable in `params`, the head included.
    pub fn backward(&self, loss: &Tensor, params: &Params) -> Result<Gradients> {
        let mut gradients = Gradients::from_store(params, &loss.backward()?);
        gradients.add(self.0.take_gradients())?;
        Ok(gradients)
    }
}
