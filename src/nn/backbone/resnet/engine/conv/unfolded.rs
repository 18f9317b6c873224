//! Any other convolution: windows unfolded into rows a few lines at a time, then one product.

use std::ops::Range;

use candle_core::WithDType;
use rayon::prelude::*;

use super::convolution::{Convolution, Receiver, Wanted};
use super::matrices::{add_up, transpose};
use crate::nn::backbone::resnet::engine::buffers::{Buffer, Buffers};
use crate::nn::backbone::resnet::engine::rows::{Outgoing, Source};
use crate::nn::backbone::resnet::engine::sums::{Moments, Sums};
use crate::nn::kernel::gemm::{Into, Matrix, Target, Threads, multiply};

/// Unfolded values that are worked on at a time.
const BLOCK: usize = 128 << 10;
/// The fewest positions of a block: with less, packing the weight takes longer than it is worth.
const LEAST_ROWS: usize = 196;
/// Groups of images whose weight gradients are summed apart.
const GROUPS: usize = 4;

/// Some lines of an image, or all lines of some images.
#[derive(Debug, Clone)]
struct Block {
    images: Range<usize>,
    lines: Range<usize>,
}

impl Convolution {
    /// Values of a window.
    fn window(&self) -> usize {
        self.kernel * self.kernel * self.inputs
    }

    /// The blocks that are worked on at a time: some lines of an image, or all lines of some images.
    fn blocks(&self, images: Range<usize>) -> Vec<Block> {
        let rows = (BLOCK / self.window()).max(LEAST_ROWS);
        let height = self.out_height();
        let at_a_time = (rows / (height * self.out_width())).max(1);
        let lines = (rows / self.out_width()).clamp(1, height);
        let mut blocks = Vec::new();
        for first in images.clone().step_by(at_a_time) {
            let images = first..(first + at_a_time).min(images.end);
            for start in (0..height).step_by(lines) {
                let lines = start..(start + lines).min(height);
                blocks.push(Block { images: images.clone(), lines });
            }
        }
        blocks
    }

    /// The weight in the order of a window: `[O, k, k, C]`.
    fn by_window<T: WithDType>(&self, weight: &[T], buffers: &Buffers<T>) -> Buffer<T> {
        let (inputs, taps) = (self.inputs, self.kernel * self.kernel);
        let mut out = buffers.take(weight.len());
        out.par_chunks_exact_mut(self.window())
            .zip(weight.par_chunks_exact(self.window()))
            .for_each(|(out, own)| {
                for tap in 0..taps {
                    for input in 0..inputs {
                        out[tap * inputs + input] = own[input * taps + tap];
                    }
                }
            });
        out
    }

    pub(super) fn unfolded_forward<T: WithDType>(
        &self,
        source: Source<'_, T>,
        weight: &[T],
        out: &mut [T],
        buffers: &Buffers<T>,
        wants_moments: bool,
    ) -> Vec<Moments> {
        let (outputs, window) = (self.outputs, self.window());
        let weight = transpose(&self.by_window(weight, buffers), outputs, buffers);
        let weight = Matrix::new(&weight, window, outputs);
        let mut rest = out;
        let blocks: Vec<(Block, &mut [T])> = self
            .blocks(0..self.images)
            .into_iter()
            .map(|block| {
                let values = self.block_rows_of(&block) * outputs;
                let (own, after) = std::mem::take(&mut rest).split_at_mut(values);
                rest = after;
                (block, own)
            })
            .collect();
        let moments = blocks.into_par_iter().map(|(block, out)| {
            let rows = out.len() / outputs;
            let mut unfolded = buffers.take(rows * window);
            self.unfold_block(source, &block, &mut unfolded, buffers);
            let unfolded = Matrix::new(&unfolded, rows, window);
            let target = Target::new(out, rows, outputs);
            multiply(target, unfolded, weight, Into::Replace, Threads::One);
            wants_moments.then(|| Moments::of(out, outputs))
        });
        moments.collect::<Vec<_>>().into_iter().flatten().collect()
    }

    /// Positions of a block.
    fn block_rows_of(&self, block: &Block) -> usize {
        block.images.len() * block.lines.len() * self.out_width()
    }

    /// Writes the windows of a block, one a row.
    fn unfold_block<T: WithDType>(
        &self,
        source: Source<'_, T>,
        block: &Block,
        unfolded: &mut [T],
        buffers: &Buffers<T>,
    ) {
        let image = block.lines.len() * self.out_width() * self.window();
        for (number, unfolded) in block.images.clone().zip(unfolded.chunks_exact_mut(image)) {
            self.unfold(source, number, block.lines.clone(), unfolded, buffers);
        }
    }

    pub(super) fn unfolded_backward<T: WithDType>(
        &self,
        source: Source<'_, T>,
        weight: &[T],
        outgoing: Outgoing<'_, T>,
        wanted: Wanted<'_, T>,
        buffers: &Buffers<T>,
    ) -> Vec<Sums> {
        let Wanted { weight: d_weight, input } = wanted;
        let window = self.window();
        let weight = self.by_window(weight, buffers);
        let in_image = self.height * self.width * self.inputs;
        let group = self.images.div_ceil(GROUPS).max(1);
        let (into, rectified) = match input {
            Some(Receiver { into, rectified }) => (Some(into), rectified),
            None => (None, None),
        };
        let parts: Vec<Option<&mut [T]>> = match into {
            Some(into) => into.chunks_mut(group * in_image).map(Some).collect(),
            None => (0..self.images.div_ceil(group)).map(|_| None).collect(),
        };
        let of_group = |(number, mut part): (usize, Option<&mut [T]>)| {
            let mut sum = d_weight.is_some().then(|| buffers.zeros(weight.len()));
            let images = number * group..((number + 1) * group).min(self.images);
            let gradients = (sum.as_deref_mut(), part.as_deref_mut());
            self.group_backward(images.clone(), source, &weight, outgoing, gradients, buffers);
            let mut sums = Vec::new();
            if let (Some(part), Some(rectified)) = (part, rectified) {
                for (image, d_image) in images.zip(part.chunks_exact_mut(in_image)) {
                    let range = image * in_image..(image + 1) * in_image;
                    sums.push(rectified.part(range).pass(d_image));
                }
            }
            (sum, sums)
        };
        let done: Vec<_> = parts.into_par_iter().enumerate().map(of_group).collect();
        let (weights, sums): (Vec<_>, Vec<_>) = done.into_iter().unzip();
        if let Some(d_weight) = d_weight {
            let weights: Vec<Buffer<T>> = weights.into_iter().flatten().collect();
            let mut total = buffers.take(weight.len());
            add_up(&mut total, &weights);
            self.by_tap(&total, d_weight, window);
        }
        sums.into_iter().flatten().collect()
    }

    /// A gradient in the order of a window, in the order of the weight.
    fn by_tap<T: WithDType>(&self, total: &[T], d_weight: &mut [T], window: usize) {
        let (inputs, taps) = (self.inputs, self.kernel * self.kernel);
        d_weight.par_chunks_exact_mut(window).zip(total.par_chunks_exact(window)).for_each(
            |(out, own)| {
                for tap in 0..taps {
                    for input in 0..inputs {
                        out[input * taps + tap] = own[tap * inputs + input];
                    }
                }
            },
        );
    }

    /// Adds the gradient of the weight of some images, and writes that of the images.
    fn group_backward<T: WithDType>(
        &self,
        images: Range<usize>,
        source: Source<'_, T>,
        weight: &[T],
        outgoing: Outgoing<'_, T>,
        (mut d_weight, mut d_images): (Option<&mut [T]>, Option<&mut [T]>),
        buffers: &Buffers<T>,
    ) {
        let (outputs, window) = (self.outputs, self.window());
        let blocks = self.blocks(images.clone());
        let most = blocks.iter().map(|block| self.block_rows_of(block)).max().unwrap_or(0);
        let mut unfolded = buffers.take(most * window);
        let mut dz = buffers.take(most * outputs);
        let in_image = self.height * self.width * self.inputs;
        let padded = self.padded_line() * (self.height + 2 * self.padding);
        let mut folded = d_images.is_some().then(|| buffers.take(padded));
        for block in blocks {
            let rows = self.block_rows_of(&block);
            let line = block.images.start * self.out_height() + block.lines.start;
            let start = line * self.out_width() * outputs;
            let own = outgoing.part(start..start + rows * outputs);
            let dz = Matrix::new(own.read(&mut dz), rows, outputs);
            let unfolded = &mut unfolded[..rows * window];
            if let Some(d_weight) = &mut d_weight {
                self.unfold_block(source, &block, unfolded, buffers);
                let target = Target::new(d_weight, outputs, window);
                let unfolded = Matrix::new(unfolded, rows, window);
                multiply(target, dz.transposed(), unfolded, Into::Add, Threads::One);
            }
            let (Some(folded), Some(d_images)) = (&mut folded, &mut d_images) else { continue };
            let weight = Matrix::new(weight, outputs, window);
            let target = Target::new(unfolded, rows, window);
            multiply(target, dz, weight, Into::Replace, Threads::One);
            let own = block.lines.len() * self.out_width() * window;
            for (image, own) in block.images.zip(unfolded.chunks_exact(own)) {
                if block.lines.start == 0 {
                    folded.fill(T::zero());
                }
                self.fold(own, block.lines.clone(), folded);
                if block.lines.end == self.out_height() {
                    let at = (image - images.start) * in_image;
                    self.cut(folded, &mut d_images[at..at + in_image]);
                }
            }
        }
    }

    /// Copies an image out of its padding.
    fn cut<T: WithDType>(&self, folded: &[T], image: &mut [T]) {
        let line = self.width * self.inputs;
        let lines = folded.chunks_exact(self.padded_line()).skip(self.padding);
        for (out, padded) in image.chunks_exact_mut(line).zip(lines) {
            out.copy_from_slice(&padded[self.padding * self.inputs..][..line]);
        }
    }

    fn padded_line(&self) -> usize {
        (self.width + 2 * self.padding) * self.inputs
    }

    /// Writes the windows of some lines of the output, one a row.
    fn unfold<T: WithDType>(
        &self,
        source: Source<'_, T>,
        image: usize,
        lines: Range<usize>,
        unfolded: &mut [T],
        buffers: &Buffers<T>,
    ) {
        let (padded_line, line) = (self.padded_line(), self.width * self.inputs);
        let needed = (lines.len() - 1) * self.stride + self.kernel;
        let mut padded = buffers.zeros(needed * padded_line);
        for (at, padded) in padded.chunks_exact_mut(padded_line).enumerate() {
            let y = lines.start * self.stride + at;
            let Some(y) = y.checked_sub(self.padding).filter(|y| *y < self.height) else {
                continue;
            };
            let start = (image * self.height + y) * line;
            let out = &mut padded[self.padding * self.inputs..][..line];
            source.part(start..start + line).write(out);
        }
        let (segment, step) = (self.kernel * self.inputs, self.stride * self.inputs);
        let windows = unfolded.chunks_exact_mut(self.window());
        for (position, window) in windows.enumerate() {
            let (y, x) = (position / self.out_width(), position % self.out_width());
            for (tap, out) in window.chunks_exact_mut(segment).enumerate() {
                let start = (y * self.stride + tap) * padded_line + x * step;
                out.copy_from_slice(&padded[start..start + segment]);
            }
        }
    }

    /// Adds the windows of some lines of the output to the padded image they were cut from.
    fn fold<T: WithDType>(&self, unfolded: &[T], lines: Range<usize>, folded: &mut [T]) {
        let padded_line = self.padded_line();
        let (segment, step) = (self.kernel * self.inputs, self.stride * self.inputs);
        for (position, window) in unfolded.chunks_exact(self.window()).enumerate() {
            let (y, x) = (position / self.out_width(), position % self.out_width());
            for (tap, own) in window.chunks_exact(segment).enumerate() {
                let line = (lines.start + y) * self.stride + tap;
                let start = line * padded_line + x * step;
                let into = &mut folded[start..start + segment];
                into.iter_mut().zip(own).for_each(|(sum, value)| *sum += *value);
            }
        }
    }
}
