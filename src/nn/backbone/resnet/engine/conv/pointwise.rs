//! 1x1 convolutions of stride 1: matrix products on the rows as they lie.

use candle_core::WithDType;
use rayon::prelude::*;

use super::convolution::{Convolution, Receiver, Wanted};
use super::matrices::{add_up, transpose};
use crate::nn::backbone::resnet::engine::buffers::Buffers;
use crate::nn::backbone::resnet::engine::rows::{Outgoing, Source};
use crate::nn::backbone::resnet::engine::sums::{Moments, Sums};
use crate::nn::kernel::gemm::{Into, Matrix, Target, Threads, multiply};

/// Values of a block of rows, in and out: what a second-level cache holds.
const BLOCK: usize = 96 << 10;
/// The fewest rows of a block: with less, packing the weight takes longer than it is worth.
const LEAST_ROWS: usize = 196;
/// Up to so many values a weight's gradient is summed apart by groups of rows.
const SMALL: usize = 512 << 10;
/// Groups of rows whose gradients are summed apart.
const GROUPS: usize = 8;
/// Outputs of a slice of a larger weight's gradient, at the least.
const LEAST_SLICE: usize = 64;
/// Slices of a larger weight's gradient, at most.
const SLICES: usize = 8;
/// Rows that a slice works on at a time.
const SLICE_ROWS: usize = 392;

impl Convolution {
    fn block_rows(&self) -> usize {
        (BLOCK / (self.inputs + self.outputs)).max(LEAST_ROWS)
    }

    pub(super) fn pointwise_forward<T: WithDType>(
        &self,
        source: Source<'_, T>,
        weight: &[T],
        out: &mut [T],
        buffers: &Buffers<T>,
        wants_moments: bool,
    ) -> Vec<Moments> {
        let (inputs, outputs, block) = (self.inputs, self.outputs, self.block_rows());
        let weight = transpose(weight, outputs, buffers);
        let weight = Matrix::new(&weight, inputs, outputs);
        let moments = out.par_chunks_mut(block * outputs).enumerate().map(|(number, out)| {
            let rows = out.len() / outputs;
            let start = number * block * inputs;
            let mut scratch = buffers.take(rows * inputs);
            let x = source.part(start..start + rows * inputs).read(&mut scratch);
            let x = Matrix::new(x, rows, inputs);
            multiply(Target::new(out, rows, outputs), x, weight, Into::Replace, Threads::One);
            wants_moments.then(|| Moments::of(out, outputs))
        });
        moments.collect::<Vec<_>>().into_iter().flatten().collect()
    }

    pub(super) fn pointwise_backward<T: WithDType>(
        &self,
        source: Source<'_, T>,
        weight: &[T],
        outgoing: Outgoing<'_, T>,
        wanted: Wanted<'_, T>,
        buffers: &Buffers<T>,
    ) -> Vec<Sums> {
        match wanted {
            Wanted { weight: Some(d_weight), input } if self.weights() <= SMALL => {
                self.by_groups(source, weight, outgoing, d_weight, input, buffers)
            }
            Wanted { weight: d_weight, input } => {
                let of_weight = || {
                    if let Some(d_weight) = d_weight {
                        self.by_slices(source, outgoing, d_weight, buffers);
                    }
                };
                let of_input = || {
                    input.map_or_else(Vec::new, |input| {
                        self.by_blocks(weight, outgoing, input, buffers)
                    })
                };
                rayon::join(of_weight, of_input).1
            }
        }
    }

    /// Both gradients in one pass over the rows.
    fn by_groups<T: WithDType>(
        &self,
        source: Source<'_, T>,
        weight: &[T],
        outgoing: Outgoing<'_, T>,
        d_weight: &mut [T],
        input: Option<Receiver<'_, T>>,
        buffers: &Buffers<T>,
    ) -> Vec<Sums> {
        let (inputs, outputs) = (self.inputs, self.outputs);
        let all = self.in_rows();
        let group = all.div_ceil(GROUPS);
        let (into, rectified) = match input {
            Some(Receiver { into, rectified }) => (Some(into), rectified),
            None => (None, None),
        };
        let parts: Vec<Option<&mut [T]>> = match into {
            Some(into) => into.chunks_mut(group * inputs).map(Some).collect(),
            None => (0..all.div_ceil(group)).map(|_| None).collect(),
        };
        let of_group = |(number, mut part): (usize, Option<&mut [T]>)| {
            let mut sum = buffers.zeros(weight.len());
            let mut sums = Vec::new();
            let (start, end) = (number * group, ((number + 1) * group).min(all));
            let block = self.block_rows().min(end - start);
            let mut dz = buffers.take(block * outputs);
            let mut scratch = buffers.take(block * inputs);
            for first in (start..end).step_by(block) {
                let rows = block.min(end - first);
                let (from, to) = (first * inputs, (first + rows) * inputs);
                let own = outgoing.part(first * outputs..(first + rows) * outputs);
                let dz = Matrix::new(own.read(&mut dz), rows, outputs);
                if let Some(part) = &mut part {
                    let d_x = &mut part[from - start * inputs..to - start * inputs];
                    let weight = Matrix::new(weight, outputs, inputs);
                    let target = Target::new(d_x, rows, inputs);
                    multiply(target, dz, weight, Into::Replace, Threads::One);
                    sums.extend(rectified.map(|rectified| rectified.part(from..to).pass(d_x)));
                }
                let x = Matrix::new(source.part(from..to).read(&mut scratch), rows, inputs);
                let target = Target::new(&mut sum, outputs, inputs);
                multiply(target, dz.transposed(), x, Into::Add, Threads::One);
            }
            (sum, sums)
        };
        let done: Vec<_> = parts.into_par_iter().enumerate().map(of_group).collect();
        let (weights, sums): (Vec<_>, Vec<_>) = done.into_iter().unzip();
        add_up(d_weight, &weights);
        sums.into_iter().flatten().collect()
    }

    /// The gradient of the input alone.
    fn by_blocks<T: WithDType>(
        &self,
        weight: &[T],
        outgoing: Outgoing<'_, T>,
        Receiver { into, rectified }: Receiver<'_, T>,
        buffers: &Buffers<T>,
    ) -> Vec<Sums> {
        let (inputs, outputs, block) = (self.inputs, self.outputs, self.block_rows());
        let weight = Matrix::new(weight, outputs, inputs);
        let sums = into.par_chunks_mut(block * inputs).enumerate().map(|(number, d_x)| {
            let rows = d_x.len() / inputs;
            let first = number * block;
            let mut dz = buffers.take(rows * outputs);
            let own = outgoing.part(first * outputs..(first + rows) * outputs);
            let dz = Matrix::new(own.read(&mut dz), rows, outputs);
            multiply(Target::new(d_x, rows, inputs), dz, weight, Into::Replace, Threads::One);
            let range = first * inputs..(first + rows) * inputs;
            rectified.map(|rectified| rectified.part(range).pass(d_x))
        });
        sums.collect::<Vec<_>>().into_iter().flatten().collect()
    }

    /// The gradient of a large weight: each slice of its outputs by one thread.
    fn by_slices<T: WithDType>(
        &self,
        source: Source<'_, T>,
        outgoing: Outgoing<'_, T>,
        d_weight: &mut [T],
        buffers: &Buffers<T>,
    ) {
        let (inputs, outputs, all) = (self.inputs, self.outputs, self.in_rows());
        let slice = outputs.div_ceil(SLICES).max(LEAST_SLICE).min(outputs);
        d_weight.par_chunks_mut(slice * inputs).enumerate().for_each(|(number, d_weight)| {
            let width = d_weight.len() / inputs;
            let block = SLICE_ROWS.min(all);
            let mut dz = buffers.take(block * width);
            let mut scratch = buffers.take(block * inputs);
            for first in (0..all).step_by(block) {
                let rows = block.min(all - first);
                let dz = &mut dz[..rows * width];
                let part = outgoing.part(first * outputs..(first + rows) * outputs);
                part.write_columns(number * slice, width, dz);
                let x = source.part(first * inputs..(first + rows) * inputs).read(&mut scratch);
                let target = Target::new(d_weight, width, inputs);
                let into = if first == 0 { Into::Replace } else { Into::Add };
                let (dz, x) = (Matrix::new(dz, rows, width), Matrix::new(x, rows, inputs));
                multiply(target, dz.transposed(), x, into, Threads::One);
            }
        });
    }
}
