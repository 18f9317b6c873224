//! SAM's image encoder as an architecture: its facts, tensors, first values and the names in checkpoints.

use std::any::Any;
use std::collections::BTreeMap;

use candle_core::Result;

use super::layout::Layout;
use super::network::Vit;
use crate::nn::backbone::architecture::Architecture;
use crate::nn::backbone::family::{Facts, Family, First, Place};
use crate::nn::backbone::network::Network;
use crate::nn::tape::params::{Params, Tensors};

/// SAM's absolute positions, which LVM-Med's networks do without.
const POSITIONS: &str = "pos_embed";
/// The other networks of a whole SAM checkpoint.
const SAM_PARTS: [&str; 2] = ["prompt_encoder.", "mask_decoder."];
/// Deviation of random linear layers, patches and position tables.
const STD: f64 = 0.02;

impl Architecture {
    /// SAM's ViT-B image encoder, the architecture of `lvmmed_vit.pth`.
    pub const SAM_VIT_B: Self = Self::of(&Layout::BASE);
}

/// The architectures of this family.
pub const KNOWN: &[Architecture] = &[Architecture::SAM_VIT_B];

impl Family for Layout {
    fn facts(&self) -> Facts {
        Facts {
            word: self.word,
            title: self.title,
            embedding_size: self.channels,
            map_channels: self.neck,
            map_stride: self.patch,
            stages: self.depth,
            size_step: 32,
            has_batch_norm: false,
            has_attention: true,
        }
    }

    /// By the names of SAM's image encoder; no `pos_embed`.
    fn tensors(&self) -> BTreeMap<String, Vec<usize>> {
        let Self { patch, channels, hidden, neck, .. } = *self;
        let mut shapes = BTreeMap::new();
        let mut put = |name: &str, shape: &[usize]| {
            shapes.insert(name.to_owned(), shape.to_vec());
        };
        put("patch_embed.proj.weight", &[channels, 3, patch, patch]);
        put("patch_embed.proj.bias", &[channels]);
        for block in 0..self.depth {
            let mut put =
                |name: &str, shape: &[usize]| put(&format!("blocks.{block}.{name}"), shape);
            for (layer, inputs, outputs) in [
                ("attn.qkv", channels, 3 * channels),
                ("attn.proj", channels, channels),
                ("mlp.lin1", channels, hidden),
                ("mlp.lin2", hidden, channels),
            ] {
                put(&format!("{layer}.weight"), &[outputs, inputs]);
                put(&format!("{layer}.bias"), &[outputs]);
            }
            for tensor in ["norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias"] {
                put(tensor, &[channels]);
            }
            for table in ["attn.rel_pos_h", "attn.rel_pos_w"] {
                put(table, &[2 * self.side(block) - 1, self.head_size()]);
            }
        }
        put("neck.0.weight", &[neck, channels, 1, 1]);
        put("neck.2.weight", &[neck, neck, 3, 3]);
        for tensor in ["neck.1.weight", "neck.1.bias", "neck.3.weight", "neck.3.bias"] {
            put(tensor, &[neck]);
        }
        shapes
    }

    fn place(&self, name: &str) -> Option<Place> {
        if name.starts_with("patch_embed.") {
            return Some(Place::Stem);
        }
        if name.starts_with("neck.") {
            return Some(Place::Map);
        }
        let (block, _) = name.strip_prefix("blocks.")?.split_once('.')?;
        block.parse().ok().filter(|block| *block < self.depth).map(Place::Stage)
    }

    /// Linear layers, patches and positions normal with deviation 0.02, the neck's convolutions normal with
    /// variance `2 / fan_out`, normalisation 1 and 0.
    fn first(&self, name: &str, shape: &[usize]) -> First {
        match shape {
            [_, _] => First::Normal(STD),
            _ if name == "patch_embed.proj.weight" => First::Normal(STD),
            [outputs, _, height, width] => {
                First::Normal((2.0 / (outputs * height * width) as f64).sqrt())
            }
            _ if name.ends_with("weight") => First::Constant(1.0),
            _ => First::Constant(0.0),
        }
    }

    fn ignores(&self, name: &str) -> bool {
        name == POSITIONS || is_of_sam(name)
    }

    fn adopt(&self, mut tensors: Tensors) -> Result<(Tensors, Vec<String>)> {
        let mut notices = Vec::new();
        let parts = tensors.keys().filter(|name| is_of_sam(name)).count();
        if parts > 0 {
            notices
                .push(format!("dropped {parts} tensors of SAM's prompt encoder and mask decoder"));
        }
        if tensors.contains_key(POSITIONS) {
            notices.push(format!(
                "dropped the absolute positions ({POSITIONS}): like LVM-Med's, the network has relative \
                 ones only; weights trained with both answer otherwise than where they come from"
            ));
        }
        tensors.retain(|name, _| !self.ignores(name));
        Ok((tensors, notices))
    }

    fn build(&self, params: &Params, alpha: Option<f64>) -> Result<Box<dyn Network>> {
        let network = Vit::new(self, params)?;
        Ok(Box::new(match alpha {
            Some(alpha) => network.with_alpha(alpha)?,
            None => network,
        }))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Whether a tensor belongs to one of the networks that a SAM checkpoint holds beside its encoder.
fn is_of_sam(name: &str) -> bool {
    SAM_PARTS.iter().any(|part| name.starts_with(part))
}

#[cfg(test)]
mod tests {
    use super::Architecture;

    #[test]
    fn sams_base_encoder_has_176_tensors_and_86525184_weights() {
        let shapes = Architecture::SAM_VIT_B.tensors();

        let weights: usize = shapes.values().map(|shape| shape.iter().product::<usize>()).sum();
        assert_eq!(shapes.len(), 176);
        assert_eq!(weights, 86_525_184);
        // Its parts, as counted from the released checkpoint.
        let part = |is_part: &dyn Fn(&str) -> bool| -> usize {
            let names = shapes.iter().filter(|(name, _)| is_part(name));
            names.map(|(_, shape)| shape.iter().product::<usize>()).sum()
        };
        let positions = |name: &str| name.contains("rel_pos");
        assert_eq!(part(&|name| name.starts_with("blocks.0.") && !positions(name)), 7_087_872);
        assert_eq!(part(&|name| name.starts_with("patch_embed.")), 590_592);
        assert_eq!(part(&positions), 92_672);
        assert_eq!(part(&|name| name.starts_with("neck.")), 787_456);
        assert_eq!(shapes["blocks.2.attn.rel_pos_h"], [127, 64]);
        assert_eq!(shapes["blocks.3.attn.rel_pos_h"], [27, 64]);
    }
}
