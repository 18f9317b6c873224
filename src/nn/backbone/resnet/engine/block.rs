//! A residual block: forward with what its backward pass needs, and backward.

use std::sync::Arc;

use candle_core::Result;

use super::buffers::{Buffer, Buffers, Pooled};
use super::conv::Receiver;
use super::join::{self, Shortcut};
use super::layer::{Extent, Normalised};
use super::rows::Source;
use crate::nn::backbone::resnet::block::Block;
use crate::nn::layer::conv_norm::ConvNorm;
use crate::nn::tape::gradients::Gradients;
use crate::nn::tape::pass::Mode;

/// The values that a block keeps for its backward pass.
pub(super) struct Kept<T> {
    input: Arc<Buffer<T>>,
    main: Vec<Normalised<T>>,
    shortcut: Option<Normalised<T>>,
    output: Arc<Buffer<T>>,
}

/// A gradient in up to two parts that are still to be added.
pub(super) struct Incoming<T> {
    pub(super) first: Buffer<T>,
    pub(super) second: Option<Buffer<T>>,
}

/// The block's output, its size, and what is kept of it.
pub(super) fn forward<T: Pooled>(
    block: &Block,
    input: &Arc<Buffer<T>>,
    extent: Extent,
    mode: Mode,
    buffers: &Buffers<T>,
) -> Result<(Arc<Buffer<T>>, Extent, Kept<T>)> {
    let plain = Source { values: input, through: None };
    let mut main: Vec<Normalised<T>> = Vec::with_capacity(block.main.len());
    for layer in &block.main {
        let (source, extent) = match main.last() {
            Some(before) => (before.rectified_source(), before.extent()),
            None => (plain, extent),
        };
        let next = Normalised::forward(layer, source, extent, mode, buffers)?;
        main.push(next);
    }
    let shortcut = match &block.shortcut {
        Some(layer) => Some(Normalised::forward(layer, plain, extent, mode, buffers)?),
        None => None,
    };
    let Some(last) = main.last() else {
        return Ok((Arc::clone(input), extent, kept(input, main, shortcut, input)));
    };
    let mut output = buffers.take(last.z.len());
    let other = match &shortcut {
        Some(other) => Shortcut::Normalised(&other.z, &other.affine),
        None => Shortcut::Identity(input),
    };
    join::forward(&last.z, &last.affine, other, &mut output);
    let (output, extent) = (Arc::new(output), last.extent());
    let kept = kept(input, main, shortcut, &output);
    Ok((output, extent, kept))
}

fn kept<T>(
    input: &Arc<Buffer<T>>,
    main: Vec<Normalised<T>>,
    shortcut: Option<Normalised<T>>,
    output: &Arc<Buffer<T>>,
) -> Kept<T> {
    Kept { input: Arc::clone(input), main, shortcut, output: Arc::clone(output) }
}

/// The gradient of the block's input, when it is wanted, from that of its output.
pub(super) fn backward<T: Pooled>(
    block: &Block,
    Kept { input, mut main, shortcut, output }: Kept<T>,
    Incoming { first: mut g, second }: Incoming<T>,
    wants_input: bool,
    gradients: &mut Gradients,
    buffers: &Buffers<T>,
) -> Result<Option<Incoming<T>>> {
    let Some(last) = main.last() else {
        return Ok(wants_input.then_some(Incoming { first: g, second }));
    };
    let (of_main, of_shortcut) = join::backward(
        &mut g,
        second.as_deref(),
        &output,
        (&last.z, &last.center),
        shortcut.as_ref().map(|other| (&*other.z, &*other.center)),
    );
    drop((second, output));
    let plain = Source { values: &input, through: None };
    let mut sums = of_main;
    let mut current: Option<Buffer<T>> = None;
    while let Some(own) = main.pop() {
        let layer = &block.main[main.len()];
        let is_wanted = wants_input || block.main[..main.len()].iter().any(ConvNorm::is_trained);
        let mut into = is_wanted.then(|| buffers.take(own.conv.in_rows() * own.conv.inputs));
        let source = main.last().map_or(plain, Normalised::rectified_source);
        let receiver = into
            .as_deref_mut()
            .map(|into| Receiver { into, rectified: main.last().map(Normalised::rectified) });
        let outgoing = (current.as_deref().unwrap_or(&g), &sums);
        sums = own.backward(layer, outgoing, source, receiver, gradients, buffers)?;
        current = into;
        if !is_wanted {
            break;
        }
    }
    let mut other = None;
    if let (Some(layer), Some(own), Some(sums)) = (&block.shortcut, shortcut, of_shortcut) {
        let mut into = wants_input.then(|| buffers.take(own.conv.in_rows() * own.conv.inputs));
        let receiver = into.as_deref_mut().map(|into| Receiver { into, rectified: None });
        own.backward(layer, (&g, &sums), plain, receiver, gradients, buffers)?;
        other = into;
    } else if wants_input {
        other = Some(g);
    }
    Ok(current.filter(|_| wants_input).map(|first| Incoming { first, second: other }))
}
