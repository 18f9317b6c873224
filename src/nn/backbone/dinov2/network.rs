//! A DINOv2 transformer from operators that candle's graph knows.
//!
//! Between two blocks the tokens of a picture lie as a map `[rows, columns, D]` whose first rows hold the
//! class token and the registers, filled up with zeros: so that what is cut there knows the size of its map.

use candle_core::{Result, Tensor, bail};

use super::block::{Block, norm};
use super::layout::Layout;
use super::positions::at_size;
use crate::nn::backbone::network::{Network, Way};
use crate::nn::layer::linear::parameters::Layer;
use crate::nn::layer::patches;
use crate::nn::tape::gradients::Gradients;
use crate::nn::tape::params::Params;
use crate::nn::tape::pass::{Features, Pass};

/// A DINOv2 transformer.
#[derive(Debug)]
pub(super) struct Dinov2 {
    layout: Layout,
    /// With what is trained in candle's graph.
    training: Parts,
    /// The same values apart from it.
    inference: Parts,
}

#[derive(Debug)]
struct Parts {
    patches: Layer,
    class: Tensor,
    registers: Option<Tensor>,
    positions: Tensor,
    blocks: Vec<Block>,
    norm: Layer,
}

impl Parts {
    fn new(layout: &Layout, params: &Params, alpha: Option<f64>) -> Result<Self> {
        let blocks = (0..layout.depth).map(|block| Block::new(params, layout, block, alpha));
        let registers = (layout.registers > 0).then(|| params.tensor("register_tokens"));
        Ok(Self {
            patches: Layer::new(params, "patch_embed.proj")?,
            class: params.tensor("cls_token")?,
            registers: registers.transpose()?,
            positions: params.tensor("pos_embed")?,
            blocks: blocks.collect::<Result<_>>()?,
            norm: Layer::new(params, "norm")?,
        })
    }
}

/// Tokens `[N, T, D]` of maps of so many rows and columns.
struct Tokens {
    values: Tensor,
    rows: usize,
    columns: usize,
}

impl Dinov2 {
    /// The network over `params`, which keep its values; low-rank factors among them weigh `alpha` over their
    /// rank.
    pub(super) fn new(layout: &Layout, params: &Params, alpha: Option<f64>) -> Result<Self> {
        let mut still = params.clone();
        still.train_only(|_| false);
        Ok(Self {
            layout: layout.clone(),
            training: Parts::new(layout, params, alpha)?,
            inference: Parts::new(layout, &still, alpha)?,
        })
    }

    fn parts(&self, pass: Pass) -> &Parts {
        match pass {
            Pass::Training => &self.training,
            Pass::Inference => &self.inference,
        }
    }

    fn first_of(&self, stages: usize) -> usize {
        self.layout.depth.saturating_sub(stages)
    }

    /// The class token, the registers and the patches, the first and the last with their positions.
    fn embed(&self, parts: &Parts, images: &Tensor) -> Result<Tokens> {
        let (count, channels, height, width) = images.dims4()?;
        let patch = self.layout.patch;
        if channels != 3 || height % patch != 0 || width % patch != 0 || height * width == 0 {
            bail!("{channels}x{height}x{width} pictures have no whole patches of {patch} pixels");
        }
        let (rows, columns) = (height / patch, width / patch);
        let map = patches::composed(&parts.patches, patch, images)?.flatten(1, 2)?;
        let learnt = parts.positions.dim(1)? - 1;
        let positions = parts.positions.narrow(1, 1, learnt)?.contiguous()?;
        let positions = at_size(&positions, (rows, columns), self.layout.interpolation)?;
        let map = map.broadcast_add(&positions)?;
        let class = (&parts.class + parts.positions.narrow(1, 0, 1)?)?;
        let special: Vec<&Tensor> = std::iter::once(&class).chain(&parts.registers).collect();
        let special = Tensor::cat(&special, 1)?;
        let special = special.broadcast_as((count, self.layout.special(), self.layout.channels))?;
        Ok(Tokens { values: Tensor::cat(&[&special.contiguous()?, &map], 1)?, rows, columns })
    }

    /// Rows of a map that the tokens before the patches take.
    fn rows_before(&self, columns: usize) -> usize {
        self.layout.special().div_ceil(columns)
    }

    /// The tokens as a map.
    fn laid_out(&self, tokens: &Tokens) -> Result<Tensor> {
        let Tokens { values, rows, columns } = tokens;
        let (count, _, channels) = values.dims3()?;
        let (special, before) = (self.layout.special(), self.rows_before(*columns));
        let shape = (count, before * columns - special, channels);
        let filling = Tensor::zeros(shape, values.dtype(), values.device())?;
        let first = values.narrow(1, 0, special)?;
        let map = values.narrow(1, special, rows * columns)?;
        let all = Tensor::cat(&[&first, &filling, &map], 1)?;
        all.reshape((count, before + rows, *columns, channels))
    }

    /// The tokens of a map.
    fn taken_up(&self, map: &Tensor) -> Result<Tokens> {
        let (_, rows, columns, _) = map.dims4()?;
        let (special, before) = (self.layout.special(), self.rows_before(columns));
        if rows <= before {
            bail!("a map of {rows} rows of {columns} tokens has no patches");
        }
        let all = map.flatten(1, 2)?;
        let rows = rows - before;
        let first = all.narrow(1, 0, special)?;
        let patches = all.narrow(1, before * columns, rows * columns)?;
        Ok(Tokens { values: Tensor::cat(&[&first, &patches], 1)?, rows, columns })
    }
}

impl Network for Dinov2 {
    fn trunk(&self, images: &Tensor, stages: usize, way: Way) -> Result<Tensor> {
        let parts = self.parts(way.pass);
        let mut tokens = self.embed(parts, images)?;
        for block in &parts.blocks[..self.first_of(stages)] {
            tokens.values = block.forward(&tokens.values)?;
        }
        self.laid_out(&tokens)
    }

    /// The embedding is the class token beside the mean of the patches, `[N, 2 D]`, the feature map the
    /// patches, `[N, D, H, W]`; all after the last normalisation.
    fn tail(&self, map: &Tensor, stages: usize, way: Way) -> Result<Features> {
        let parts = self.parts(way.pass);
        let Tokens { mut values, rows, columns } = self.taken_up(map)?;
        for block in &parts.blocks[self.first_of(stages)..] {
            values = block.forward(&values)?;
        }
        let values = norm(&parts.norm, &values)?;
        let (count, _, channels) = values.dims3()?;
        let class = values.narrow(1, 0, 1)?.squeeze(1)?;
        let patches = values.narrow(1, self.layout.special(), rows * columns)?;
        let embedding = Tensor::cat(&[&class, &patches.mean(1)?], 1)?;
        let feature_map =
            patches.transpose(1, 2)?.contiguous()?.reshape((count, channels, rows, columns))?;
        Ok(Features { embedding, feature_map })
    }

    /// candle's graph knows all of them.
    fn take_gradients(&self) -> Gradients {
        Gradients::default()
    }
}
