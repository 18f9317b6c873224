//! The shapes of residual networks, by torchvision's names.

/// The shape of a residual network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// The word of its architecture.
    pub word: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// Blocks of each of the four stages.
    pub blocks: [usize; 4],
    /// Three convolutions a block (1x1, 3x3, 1x1) instead of two 3x3 ones.
    pub bottleneck: bool,
}

impl Layout {
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
