//! A residual block: its convolutions, each normalised, and its shortcut.

use candle_core::{Result, Tensor};

use super::layout::BlockLayout;
use crate::nn::kernel::ops::add_relu;
use crate::nn::layer::conv_norm::{Activation, ConvNorm};
use crate::nn::tape::params::Params;
use crate::nn::tape::pass::Mode;

/// The layers of a residual block.
#[derive(Debug, Clone)]
pub(in crate::nn) struct Block {
    pub(in crate::nn) main: Vec<ConvNorm>,
    pub(in crate::nn) shortcut: Option<ConvNorm>,
}

impl Block {
    pub(super) fn new(params: &Params, layout: &BlockLayout) -> Result<Self> {
        let prefix = &layout.prefix;
        let layer = |(number, _, _, kernel, stride): (usize, usize, usize, usize, usize)| {
            let (conv, norm) = (format!("{prefix}.conv{number}"), format!("{prefix}.bn{number}"));
            ConvNorm::new(params, (&conv, &norm), stride, kernel / 2)
        };
        let main = layout.convolutions().into_iter().map(layer).collect::<Result<_>>()?;
        let (conv, norm) = (format!("{prefix}.downsample.0"), format!("{prefix}.downsample.1"));
        let shortcut = layout
            .has_downsample()
            .then(|| ConvNorm::new(params, (&conv, &norm), layout.stride, 0))
            .transpose()?;
        Ok(Self { main, shortcut })
    }

    /// Whether any of its parameters is trained.
    pub(in crate::nn) fn is_trained(&self) -> bool {
        self.main.iter().chain(&self.shortcut).any(ConvNorm::is_trained)
    }

    pub(super) fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let mut main = x.clone();
        for (at, layer) in self.main.iter().enumerate() {
            let is_last = at + 1 == self.main.len();
            let activation = if is_last { Activation::None } else { Activation::Relu };
            main = layer.forward(&main, mode, activation)?;
        }
        match &self.shortcut {
            Some(layer) => add_relu(&main, &layer.forward(x, mode, Activation::None)?),
            None => add_relu(&main, x),
        }
    }
}
