//! The shape of a vision transformer as SAM has it (Kirillov et al. 2023, after Li et al. 2022).

use std::collections::BTreeMap;

use crate::domain::Architecture;

/// Added to variances.
pub const EPSILON: f64 = 1e-6;

/// The shape of a transformer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Side of a patch in pixels; a token stands for one patch.
    pub patch: usize,
    /// Channels of a token.
    pub channels: usize,
    /// Blocks.
    pub depth: usize,
    /// Heads of attention.
    pub heads: usize,
    /// Channels between the two layers of a block's perceptron.
    pub hidden: usize,
    /// Side of the windows that most blocks attend within, in tokens.
    pub window: usize,
    /// Blocks that attend over the whole map.
    pub global: Vec<usize>,
    /// Side of the map, in tokens, that the position tables of those were made for.
    pub grid: usize,
    /// Channels of the feature map.
    pub neck: usize,
}

impl Layout {
    /// The layout of an architecture, if it is a transformer.
    pub fn of(architecture: Architecture) -> Option<Self> {
        match architecture {
            Architecture::SamVitB => Some(Self {
                patch: 16,
                channels: 768,
                depth: 12,
                heads: 12,
                hidden: 3072,
                window: 14,
                global: vec![2, 5, 8, 11],
                grid: 64,
                neck: 256,
            }),
            Architecture::Resnet18
            | Architecture::Resnet34
            | Architecture::Resnet50
            | Architecture::Resnet101
            | Architecture::Resnet152 => None,
        }
    }

    /// Channels of a head.
    pub fn head_size(&self) -> usize {
        self.channels / self.heads
    }

    /// Values of a patch.
    pub fn patch_size(&self) -> usize {
        3 * self.patch * self.patch
    }

    /// Side of the map that a block's position tables were made for.
    pub fn side(&self, block: usize) -> usize {
        if self.global.contains(&block) { self.grid } else { self.window }
    }

    /// Every tensor's name and shape, by the names of SAM's image encoder; no `pos_embed`.
    pub fn tensors(&self) -> BTreeMap<String, Vec<usize>> {
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
}

#[cfg(test)]
mod tests {
    use super::Layout;
    use crate::domain::Architecture;

    #[test]
    fn sams_base_encoder_has_176_tensors_and_86525184_weights() {
        let shapes = Layout::of(Architecture::SamVitB).expect("a transformer").tensors();

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
