//! One block: attention over all tokens and a perceptron, each normalised before and scaled after.

use candle_core::{Result, Tensor};

use super::layout::Layout;
use crate::nn::kernel::ops::softmax;
use crate::nn::layer::gelu::gelu;
use crate::nn::layer::layer_norm::{TRANSFORMER_EPSILON, layer_norm};
use crate::nn::layer::linear::composed::layer;
use crate::nn::layer::linear::parameters::{Layer, LowRank};
use crate::nn::layer::lora::{PROJ_PARTS, QKV_PARTS};
use crate::nn::tape::params::Params;

/// The tensors of one block.
#[derive(Debug, Clone)]
pub(super) struct Block {
    norms: [Layer; 2],
    qkv: Layer,
    qkv_low_rank: Option<LowRank>,
    proj: Layer,
    proj_low_rank: Option<LowRank>,
    fc1: Layer,
    fc2: Layer,
    scales: [Tensor; 2],
    heads: usize,
}

impl Block {
    pub(super) fn new(
        params: &Params,
        layout: &Layout,
        block: usize,
        alpha: Option<f64>,
    ) -> Result<Self> {
        let name = |end: &str| format!("blocks.{block}.{end}");
        let layer = |end: &str| Layer::new(params, &name(end));
        let scale = |end: &str| params.tensor(&name(end));
        let low_rank = |end: &str, parts: &[usize]| -> Result<Option<LowRank>> {
            let mut found = LowRank::new(params, &name(end), parts)?;
            if let (Some(found), Some(alpha)) = (&mut found, alpha) {
                found.set_alpha(alpha)?;
            }
            Ok(found)
        };
        Ok(Self {
            norms: [layer("norm1")?, layer("norm2")?],
            qkv: layer("attn.qkv")?,
            qkv_low_rank: low_rank("attn.qkv", &QKV_PARTS)?,
            proj: layer("attn.proj")?,
            proj_low_rank: low_rank("attn.proj", &PROJ_PARTS)?,
            fc1: layer("mlp.fc1")?,
            fc2: layer("mlp.fc2")?,
            scales: [scale("ls1.gamma")?, scale("ls2.gamma")?],
            heads: layout.heads,
        })
    }

    /// `m = x + γ₁ proj(attention(norm1(x)))`, then `m + γ₂ fc2(gelu(fc1(norm2(m))))`: tokens `[N, T, D]` to
    /// tokens.
    pub(super) fn forward(&self, tokens: &Tensor) -> Result<Tensor> {
        let attended = self.attend(&norm(&self.norms[0], tokens)?)?;
        let middle = (tokens + attended.broadcast_mul(&self.scales[0])?)?;
        let hidden = layer(&self.fc1, None, &norm(&self.norms[1], &middle)?)?;
        let out = layer(&self.fc2, None, &gelu(&hidden)?)?;
        &middle + out.broadcast_mul(&self.scales[1])?
    }

    /// `softmax(q kᵀ / √S) v` of each head, and the layer after it.
    fn attend(&self, normal: &Tensor) -> Result<Tensor> {
        let (images, tokens, channels) = normal.dims3()?;
        let size = channels / self.heads;
        let qkv = layer(&self.qkv, self.qkv_low_rank.as_ref(), normal)?
            .reshape((images, tokens, 3, self.heads, size))?
            .permute((2, 0, 3, 1, 4))?
            .contiguous()?;
        let [q, k, v] = [qkv.get(0)?, qkv.get(1)?, qkv.get(2)?];
        let scores = (q * (size as f64).powf(-0.5))?.matmul(&k.transpose(2, 3)?.contiguous()?)?;
        let seen = softmax(&scores)?.matmul(&v)?;
        let rows = seen.transpose(1, 2)?.contiguous()?.reshape((images, tokens, channels))?;
        layer(&self.proj, self.proj_low_rank.as_ref(), &rows)
    }
}

/// The normalisation of tokens.
pub(super) fn norm(norm: &Layer, tokens: &Tensor) -> Result<Tensor> {
    layer_norm(tokens, &norm.weight.tensor, &norm.bias.tensor, TRANSFORMER_EPSILON)
}
