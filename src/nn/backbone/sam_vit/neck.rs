//! The neck: a 1x1 and a 3x3 convolution, each with a normalisation over the channels after it.

use candle_core::{Result, Tensor};

use crate::nn::layer::conv::conv2d;
use crate::nn::layer::layer_norm::TRANSFORMER_EPSILON as EPSILON;
use crate::nn::layer::layer_norm::layer_norm;
use crate::nn::tape::params::Params;

/// The tensors of the neck.
#[derive(Debug, Clone)]
pub(super) struct Neck {
    first: Tensor,
    norms: [(Tensor, Tensor); 2],
    second: Tensor,
}

impl Neck {
    pub(super) fn new(params: &Params) -> Result<Self> {
        let norm = |at: usize| -> Result<(Tensor, Tensor)> {
            let of = |end: &str| params.tensor(&format!("neck.{at}.{end}"));
            Ok((of("weight")?, of("bias")?))
        };
        Ok(Self {
            first: params.tensor("neck.0.weight")?.flatten_from(1)?,
            norms: [norm(1)?, norm(3)?],
            second: params.tensor("neck.2.weight")?,
        })
    }

    /// Tokens `[N, H, W, D]` to a feature map `[N, neck, H, W]`.
    pub(super) fn forward(&self, tokens: &Tensor) -> Result<Tensor> {
        let (images, rows, columns, channels) = tokens.dims4()?;
        // A 1x1 convolution of tokens as they lie.
        let x = tokens.reshape(((), channels))?.matmul(&self.first.t()?)?;
        let x = x.reshape((images, rows, columns, ()))?;
        let norm = |x: &Tensor, at: usize| -> Result<Tensor> {
            let (weight, bias) = &self.norms[at];
            layer_norm(x, weight, bias, EPSILON)?.permute((0, 3, 1, 2))?.contiguous()
        };
        let x = conv2d(&norm(&x, 0)?, &self.second, 1, 1)?;
        norm(&x.permute((0, 2, 3, 1))?.contiguous()?, 1)
    }
}
