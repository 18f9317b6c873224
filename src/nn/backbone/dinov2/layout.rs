//! The shape of a DINOv2 transformer.

use super::positions::Interpolation;

/// The shape of a transformer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The word of its architecture, the name that the authors' hub has.
    pub word: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// Side of a patch in pixels; a token stands for one patch.
    pub patch: usize,
    /// Channels of a token.
    pub channels: usize,
    /// Blocks.
    pub depth: usize,
    /// Heads of attention.
    pub heads: usize,
    /// Register tokens between the class token and the patches.
    pub registers: usize,
    /// Side of the map, in tokens, that the positions were learnt on.
    pub grid: usize,
    /// The way in which positions are brought to maps of other sizes.
    pub interpolation: Interpolation,
}

impl Layout {
    /// ViT-S/14.
    pub const SMALL: Self = Self {
        word: "dinov2_vits14",
        title: "DINOv2 ViT-S/14",
        patch: 14,
        channels: 384,
        depth: 12,
        heads: 6,
        registers: 0,
        grid: 37,
        interpolation: Interpolation::Clamped,
    };
    /// ViT-B/14, the architecture of RAD-DINO.
    pub const BASE: Self = Self {
        word: "dinov2_vitb14",
        title: "DINOv2 ViT-B/14",
        channels: 768,
        heads: 12,
        ..Self::SMALL
    };
    /// ViT-L/14.
    pub const LARGE: Self = Self {
        word: "dinov2_vitl14",
        title: "DINOv2 ViT-L/14",
        channels: 1024,
        depth: 24,
        heads: 16,
        ..Self::SMALL
    };

    /// The same with four registers.
    #[must_use]
    pub const fn with_registers(self, word: &'static str, title: &'static str) -> Self {
        Self { word, title, registers: 4, interpolation: Interpolation::Antialiased, ..self }
    }

    /// Channels of a head.
    pub fn head_size(&self) -> usize {
        self.channels / self.heads
    }

    /// Channels between the two layers of a block's perceptron.
    pub fn hidden(&self) -> usize {
        4 * self.channels
    }

    /// Tokens before those of the patches.
    pub fn special(&self) -> usize {
        1 + self.registers
    }
}
