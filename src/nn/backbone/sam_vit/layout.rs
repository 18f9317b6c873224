//! The shape of a vision transformer as SAM has it (Kirillov et al. 2023, after Li et al. 2022).

/// The shape of a transformer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The word of its architecture.
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
    /// Channels between the two layers of a block's perceptron.
    pub hidden: usize,
    /// Side of the windows that most blocks attend within, in tokens.
    pub window: usize,
    /// Blocks that attend over the whole map.
    pub global: &'static [usize],
    /// Side of the map, in tokens, that the position tables of those were made for.
    pub grid: usize,
    /// Channels of the feature map.
    pub neck: usize,
}

impl Layout {
    /// SAM's ViT-B.
    pub const BASE: Self = Self {
        word: "sam_vit_b",
        title: "SAM ViT-B",
        patch: 16,
        channels: 768,
        depth: 12,
        heads: 12,
        hidden: 3072,
        window: 14,
        global: &[2, 5, 8, 11],
        grid: 64,
        neck: 256,
    };

    /// Channels of a head.
    pub fn head_size(&self) -> usize {
        self.channels / self.heads
    }

    /// Side of the map that a block's position tables were made for.
    pub fn side(&self, block: usize) -> usize {
        if self.global.contains(&block) { self.grid } else { self.window }
    }
}
