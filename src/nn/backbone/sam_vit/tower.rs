//! Consecutive blocks as one operator on the CPU, whose parameter gradients go to a [`Sink`].

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, Layout as Strides, Result, Shape, Tensor, bail,
};

use super::block::Saved;
use super::layout::Layout;
use super::parameters::Block;
use crate::nn::kernel::ops::{to_vec, values};
use crate::nn::kernel::real::Real;
use crate::nn::layer::attention::Windows;
use crate::nn::tape::sink::Sink;

/// Consecutive blocks over tokens `[N, H, W, D]`.
pub(super) struct Tower<T> {
    layout: Arc<Layout>,
    blocks: Vec<Block>,
    sink: Sink,
    /// Whether there will be a backward pass.
    is_kept: bool,
    saved: Mutex<Vec<Saved<T>>>,
}

impl<T: Real> Tower<T> {
    /// Tokens after the blocks. Where something is trained, they join the graph of `anchor`: candle
    /// knows nothing of the parameters. Without one there is no backward pass.
    pub(super) fn apply(
        layout: &Arc<Layout>,
        blocks: &[Block],
        sink: &Sink,
        tokens: &Tensor,
        anchor: Option<&Tensor>,
    ) -> Result<Tensor> {
        let is_trained = blocks.iter().any(Block::is_trained);
        let is_kept = anchor.is_some() && (is_trained || tokens.track_op());
        let tower = Self {
            layout: Arc::clone(layout),
            blocks: blocks.to_vec(),
            sink: sink.clone(),
            is_kept,
            saved: Mutex::default(),
        };
        let tokens = tokens.contiguous()?;
        match anchor.filter(|_| is_kept) {
            None => tokens.apply_op1_no_bwd(&tower),
            Some(anchor) if is_trained => tokens.apply_op2(anchor, tower),
            Some(anchor) => tokens.apply_op2(&anchor.detach(), tower),
        }
    }

    fn windows(&self, block: &Block, (images, rows, columns): (usize, usize, usize)) -> Windows {
        let (height, width) = if block.is_global {
            (rows, columns)
        } else {
            (self.layout.window, self.layout.window)
        };
        let (heads, head_size) = (self.layout.heads, self.layout.head_size());
        Windows { images, rows, columns, height, width, heads, head_size }
    }

    fn forward(&self, tokens: &[T], map: (usize, usize, usize)) -> Result<Vec<T>> {
        let mut tokens = tokens.to_vec();
        let mut kept = Vec::new();
        for block in &self.blocks {
            let (out, saved) = block.forward(&self.windows(block, map), tokens)?;
            tokens = out;
            if self.is_kept {
                kept.push(saved);
            }
        }
        *self.saved.lock().unwrap_or_else(PoisonError::into_inner) = kept;
        Ok(tokens)
    }
}

impl<T: Real> CustomOp1 for Tower<T> {
    fn name(&self) -> &'static str {
        "transformer-blocks"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Strides) -> Result<(CpuStorage, Shape)> {
        let (images, rows, columns, _) = layout.shape().dims4()?;
        let out = self.forward(values::<T>(storage, layout)?, (images, rows, columns))?;
        Ok((T::to_cpu_storage_owned(out), layout.shape().clone()))
    }
}

impl<T: Real> CustomOp2 for Tower<T> {
    fn name(&self) -> &'static str {
        "transformer-blocks"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Strides,
        _: &CpuStorage,
        _: &Strides,
    ) -> Result<(CpuStorage, Shape)> {
        CustomOp1::cpu_fwd(self, s1, l1)
    }

    fn bwd(
        &self,
        tokens: &Tensor,
        _anchor: &Tensor,
        _out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (images, rows, columns, _) = tokens.dims4()?;
        let mut saved =
            std::mem::take(&mut *self.saved.lock().unwrap_or_else(PoisonError::into_inner));
        if saved.len() != self.blocks.len() {
            bail!("a transformer has one backward pass for each forward pass");
        }
        let mut grad = to_vec::<T>(grad)?;
        for (at, block) in self.blocks.iter().enumerate().rev() {
            let before = self.blocks[..at].iter().any(Block::is_trained);
            let is_asked = tokens.track_op() || before;
            if !is_asked && !block.is_trained() {
                return Ok((None, None));
            }
            let Some(own) = saved.pop() else { break };
            let windows = self.windows(block, (images, rows, columns));
            grad = block.backward(&windows, own, grad, is_asked, &self.sink)?;
        }
        if !tokens.track_op() {
            return Ok((None, None));
        }
        Ok((Some(Tensor::from_vec(grad, tokens.shape(), tokens.device())?), None))
    }
}
