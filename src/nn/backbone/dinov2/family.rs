//! DINOv2's transformers as architectures: their facts, tensors and first values.

use std::any::Any;
use std::collections::BTreeMap;

use candle_core::Result;

use super::layout::Layout;
use super::names;
use super::network::Dinov2;
use crate::nn::backbone::architecture::Architecture;
use crate::nn::backbone::family::{Facts, Family, First, Place};
use crate::nn::backbone::network::Network;
use crate::nn::tape::params::{Params, Tensors};

/// Deviation of random weights.
const STD: f64 = 0.02;
/// Deviation of random tokens, next to nothing.
const TOKEN_STD: f64 = 1e-6;
/// The tensors that come before the first block.
const STEM: [&str; 4] = ["cls_token", "register_tokens", "pos_embed", "patch_embed."];

impl Architecture {
    /// DINOv2's ViT-S/14.
    pub const DINOV2_VITS14: Self = Self::of(&Layout::SMALL);
    /// DINOv2's ViT-B/14, the architecture of RAD-DINO.
    pub const DINOV2_VITB14: Self = Self::of(&Layout::BASE);
    /// DINOv2's ViT-L/14.
    pub const DINOV2_VITL14: Self = Self::of(&Layout::LARGE);
    /// DINOv2's ViT-S/14 with registers.
    pub const DINOV2_VITS14_REG: Self = Self::of(
        &Layout::SMALL.with_registers("dinov2_vits14_reg", "DINOv2 ViT-S/14 with registers"),
    );
    /// DINOv2's ViT-B/14 with registers.
    pub const DINOV2_VITB14_REG: Self = Self::of(
        &Layout::BASE.with_registers("dinov2_vitb14_reg", "DINOv2 ViT-B/14 with registers"),
    );
    /// DINOv2's ViT-L/14 with registers.
    pub const DINOV2_VITL14_REG: Self = Self::of(
        &Layout::LARGE.with_registers("dinov2_vitl14_reg", "DINOv2 ViT-L/14 with registers"),
    );
}

/// The architectures of this family.
pub const KNOWN: &[Architecture] = &[
    Architecture::DINOV2_VITS14,
    Architecture::DINOV2_VITB14,
    Architecture::DINOV2_VITL14,
    Architecture::DINOV2_VITS14_REG,
    Architecture::DINOV2_VITB14_REG,
    Architecture::DINOV2_VITL14_REG,
];

impl Family for Layout {
    fn facts(&self) -> Facts {
        Facts {
            word: self.word,
            title: self.title,
            embedding_size: 2 * self.channels,
            map_channels: self.channels,
            map_stride: self.patch,
            stages: self.depth,
            size_step: self.patch as u32,
            has_batch_norm: false,
            has_attention: true,
        }
    }

    /// By the names of the authors' releases; no `mask_token`.
    fn tensors(&self) -> BTreeMap<String, Vec<usize>> {
        let (channels, hidden) = (self.channels, self.hidden());
        let mut shapes = BTreeMap::new();
        let mut put = |name: &str, shape: &[usize]| {
            shapes.insert(name.to_owned(), shape.to_vec());
        };
        put("cls_token", &[1, 1, channels]);
        put("pos_embed", &[1, 1 + self.grid * self.grid, channels]);
        if self.registers > 0 {
            put("register_tokens", &[1, self.registers, channels]);
        }
        put("patch_embed.proj.weight", &[channels, 3, self.patch, self.patch]);
        put("patch_embed.proj.bias", &[channels]);
        for block in 0..self.depth {
            let mut put =
                |name: &str, shape: &[usize]| put(&format!("blocks.{block}.{name}"), shape);
            for (layer, inputs, outputs) in [
                ("attn.qkv", channels, 3 * channels),
                ("attn.proj", channels, channels),
                ("mlp.fc1", channels, hidden),
                ("mlp.fc2", hidden, channels),
            ] {
                put(&format!("{layer}.weight"), &[outputs, inputs]);
                put(&format!("{layer}.bias"), &[outputs]);
            }
            for tensor in ["norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias"] {
                put(tensor, &[channels]);
            }
            for scale in ["ls1.gamma", "ls2.gamma"] {
                put(scale, &[channels]);
            }
        }
        put("norm.weight", &[channels]);
        put("norm.bias", &[channels]);
        shapes
    }

    fn place(&self, name: &str) -> Option<Place> {
        if STEM.iter().any(|start| name.starts_with(start)) {
            return Some(Place::Stem);
        }
        if name.starts_with("norm.") {
            return Some(Place::Top);
        }
        let (block, _) = name.strip_prefix("blocks.")?.split_once('.')?;
        block.parse().ok().filter(|block| *block < self.depth).map(Place::Stage)
    }

    /// Linear layers, patches and positions normal with deviation 0.02, tokens next to zero, normalisation and
    /// layer scale 1, the value that the authors' constructors have: with the 1e-5 that they train from, blocks
    /// that nobody trains would do nothing.
    fn first(&self, name: &str, shape: &[usize]) -> First {
        match shape {
            [_, _] | [_, _, _, _] => First::Normal(STD),
            _ if name == "pos_embed" => First::Normal(STD),
            [_, _, _] => First::Normal(TOKEN_STD),
            _ if name.ends_with("weight") || name.ends_with("gamma") => First::Constant(1.0),
            _ => First::Constant(0.0),
        }
    }

    fn ignores(&self, name: &str) -> bool {
        names::is_of_training(name)
    }

    fn adopt(&self, tensors: Tensors) -> Result<(Tensors, Vec<String>)> {
        names::adopt(tensors)
    }

    fn build(&self, params: &Params, alpha: Option<f64>) -> Result<Box<dyn Network>> {
        Ok(Box::new(Dinov2::new(self, params, alpha)?))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::Architecture;

    /// As counted from the authors' code, without the 384 of `mask_token`.
    #[test]
    fn the_small_one_has_174_tensors_and_22056192_weights() {
        let count = |architecture: Architecture| -> (usize, usize) {
            let shapes = architecture.tensors();
            (shapes.len(), shapes.values().map(|shape| shape.iter().product::<usize>()).sum())
        };

        assert_eq!(count(Architecture::DINOV2_VITS14), (174, 22_056_192));
        assert_eq!(count(Architecture::DINOV2_VITB14), (174, 86_580_480 - 768));
        assert_eq!(count(Architecture::DINOV2_VITL14), (342, 304_368_640 - 1024));
        assert_eq!(count(Architecture::DINOV2_VITS14_REG), (175, 22_058_112 - 384));
    }
}
