//! A stretch of a residual network as one operator of candle's graph.
//!
//! candle adds every gradient to a tensor of zeros that it makes for it; as one operator, a network
//! is spared that for all but its last feature map. Gradients of parameters do not go through the
//! graph: they are left in [`Setting::sink`], from where the encoder takes them.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, Var, bail};

use super::block::{self, Incoming};
use super::buffers::{Buffer, Buffers, Pooled, Pools};
use super::conv::Receiver;
use super::layer::{Extent, Normalised};
use super::layout::{to_planes, to_rows};
use super::pool::Pooling;
use super::rows::Source;
use super::sums::Sums;
use crate::nn::backbone::resnet::block::Block;
use crate::nn::kernel::ops::Borrowed;
use crate::nn::layer::conv_norm::ConvNorm;
use crate::nn::tape::gradients::Gradients;
use crate::nn::tape::pass::{Mode, Pass};
use crate::nn::tape::sink::Sink;

/// The surroundings of a computation: statistics, reused memory and a place for gradients.
#[derive(Debug, Clone)]
pub(in crate::nn) struct Setting {
    pub(in crate::nn) mode: Mode,
    pub(in crate::nn) pools: Pools,
    /// The sink where gradients of parameters are left.
    pub(in crate::nn) sink: Sink,
}

/// The output `[N, D, H', W']` of a stem, where there is one, and of blocks after it.
pub(in crate::nn) fn run(
    x: &Tensor,
    (stem, blocks): (Option<&ConvNorm>, &[&Block]),
    setting: &Setting,
    pass: Pass,
) -> Result<Tensor> {
    let trains = stem.is_some_and(ConvNorm::is_trained) || blocks.iter().any(|b| b.is_trained());
    let wants_input = x.track_op() && stem.is_none();
    let keeps = pass == Pass::Training && (trains || wants_input);
    let x = x.contiguous()?;
    match x.dtype() {
        DType::F32 => apply(x, Stretch::<f32>::new(stem, blocks, setting, (keeps, wants_input))),
        DType::F64 => apply(x, Stretch::<f64>::new(stem, blocks, setting, (keeps, wants_input))),
        other => bail!("networks compute in 32 or 64 bits, not in {other:?}"),
    }
}

fn apply<T: Pooled>(x: Tensor, stretch: Stretch<T>) -> Result<Tensor> {
    if !stretch.keeps {
        return x.apply_op1_no_bwd(&stretch);
    }
    // candle only goes back through operators that something tracked goes into.
    let x = if x.track_op() { x } else { Var::from_tensor(&x)?.as_tensor().clone() };
    x.apply_op1(stretch)
}

struct Stretch<T> {
    stem: Option<ConvNorm>,
    blocks: Vec<Block>,
    setting: Setting,
    keeps: bool,
    wants_input: bool,
    kept: Mutex<Option<Kept<T>>>,
}

struct Kept<T> {
    stem: Option<Stem<T>>,
    blocks: Vec<block::Kept<T>>,
    extent: Extent,
}

struct Stem<T> {
    pictures: Buffer<T>,
    normalised: Normalised<T>,
    pooling: Pooling,
    places: Vec<u8>,
}

impl<T: Pooled> Stretch<T> {
    fn new(
        stem: Option<&ConvNorm>,
        blocks: &[&Block],
        setting: &Setting,
        (keeps, wants_input): (bool, bool),
    ) -> Self {
        Self {
            stem: stem.cloned(),
            blocks: blocks.iter().copied().cloned().collect(),
            setting: setting.clone(),
            keeps,
            wants_input,
            kept: Mutex::new(None),
        }
    }

    fn buffers(&self) -> &Buffers<T> {
        T::buffers(&self.setting.pools)
    }

    fn forward(&self, planes: &[T], dims: (usize, usize, usize, usize)) -> Result<(Vec<T>, Shape)> {
        let (images, channels, height, width) = dims;
        let mut extent = Extent { images, height, width };
        let mut rows = self.buffers().take(planes.len());
        to_rows(planes, channels, height * width, &mut rows);
        let stem = match &self.stem {
            Some(layer) => {
                let (stem, out, after) = self.stem_forward(layer, rows, extent)?;
                (rows, extent) = (out, after);
                self.keeps.then_some(stem)
            }
            None => None,
        };
        let mut x = Arc::new(rows);
        let mut blocks = Vec::new();
        for block in &self.blocks {
            let (out, after, kept) =
                block::forward(block, &x, extent, self.setting.mode, self.buffers())?;
            (x, extent) = (out, after);
            if self.keeps {
                blocks.push(kept);
            }
        }
        let positions = extent.height * extent.width;
        let channels = x.len() / (images * positions).max(1);
        let mut out = vec![T::zero(); x.len()];
        to_planes(&x, channels, positions, &mut out);
        if self.keeps {
            let kept = Kept { stem, blocks, extent };
            *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(kept);
        }
        Ok((out, (images, channels, extent.height, extent.width).into()))
    }

    fn stem_forward(
        &self,
        layer: &ConvNorm,
        pictures: Buffer<T>,
        extent: Extent,
    ) -> Result<(Stem<T>, Buffer<T>, Extent)> {
        let (mode, buffers) = (self.setting.mode, self.buffers());
        let source = Source { values: &pictures, through: None };
        let normalised = Normalised::forward(layer, source, extent, mode, buffers)?;
        let Extent { images, height, width } = normalised.extent();
        let pooling = Pooling { images, height, width, channels: normalised.conv.outputs };
        let mut out = buffers.take(pooling.outputs());
        let mut places = vec![0; pooling.outputs()];
        pooling.forward(&normalised.z, &normalised.affine, &mut out, &mut places);
        let after = Extent { images, height: pooling.out_height(), width: pooling.out_width() };
        Ok((Stem { pictures, normalised, pooling, places }, out, after))
    }

    /// Leaves the gradients of the parameters, and gives that of the input when it is wanted.
    fn backward(&self, x: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Kept { stem, blocks, extent }) = kept else {
            bail!("the graph of a network was gone through backwards twice");
        };
        let buffers = self.buffers();
        let grad = grad.contiguous()?;
        let (_, channels, _, _) = grad.dims4()?;
        let mut rows = buffers.take(grad.elem_count());
        to_rows(
            Borrowed::of(&grad).values::<T>()?,
            channels,
            extent.height * extent.width,
            &mut rows,
        );
        let mut gradients = Gradients::default();
        let stem_trains = self.stem.as_ref().is_some_and(ConvNorm::is_trained);
        let mut incoming = Some(Incoming { first: rows, second: None });
        for (at, (block, kept)) in self.blocks.iter().zip(blocks).enumerate().rev() {
            let Some(own) = incoming.take() else { break };
            let before = &self.blocks[..at];
            let wants_input =
                self.wants_input || stem_trains || before.iter().any(Block::is_trained);
            incoming = block::backward(block, kept, own, wants_input, &mut gradients, buffers)?;
        }
        let mut d_input = None;
        if let Some(Incoming { mut first, second }) = incoming {
            if let Some(second) = second {
                first.iter_mut().zip(second.iter()).for_each(|(sum, value)| *sum += *value);
            }
            match (&self.stem, stem) {
                (Some(layer), Some(stem)) => {
                    self.stem_backward(layer, &stem, &first, &mut gradients)?;
                }
                _ if self.wants_input => {
                    let (_, channels, height, width) = x.dims4()?;
                    let mut planes = vec![T::zero(); first.len()];
                    to_planes(&first, channels, height * width, &mut planes);
                    d_input = Some(Tensor::from_vec(planes, x.shape(), x.device())?);
                }
                _ => {}
            }
        }
        self.setting.sink.add(gradients)?;
        Ok(d_input)
    }

    fn stem_backward(
        &self,
        layer: &ConvNorm,
        Stem { pictures, normalised, pooling, places }: &Stem<T>,
        g: &[T],
        gradients: &mut Gradients,
    ) -> Result<()> {
        let buffers = self.buffers();
        let mut d_y = buffers.take(normalised.z.len());
        let parts = pooling.backward(g, places, normalised.rectified(), &mut d_y);
        let source = Source { values: pictures, through: None };
        let none: Option<Receiver<'_, T>> = None;
        let outgoing = (&*d_y, &Sums::total(&parts));
        normalised.backward(layer, outgoing, source, none, gradients, buffers)?;
        Ok(())
    }
}

impl<T: Pooled> CustomOp1 for Stretch<T> {
    fn name(&self) -> &'static str {
        "residual-network"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let planes = crate::nn::kernel::ops::values::<T>(storage, layout)?;
        let (out, shape) = self.forward(planes, layout.shape().dims4()?)?;
        Ok((T::to_cpu_storage_owned(out), shape))
    }

    fn bwd(&self, x: &Tensor, _out: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        self.backward(x, grad)
    }
}
