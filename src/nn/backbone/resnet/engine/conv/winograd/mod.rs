//! 3x3 convolutions of stride 1 as thirty-six products of transformed tiles.
//!
//! Images are handled a few at a time, so that their transformed tiles stay in the cache: tiles are
//! transformed (shared out by rows of tiles), multiplied (shared out by place in the tile) and
//! transformed back. A quarter of the multiplications of the plain way is left.

mod filters;
mod pictures;
mod tiling;

use candle_core::WithDType;
use rayon::prelude::*;

use super::convolution::{Convolution, Receiver, Wanted};
use super::transforms::{OUT, PLACES};
use crate::nn::backbone::resnet::engine::buffers::Buffers;
use crate::nn::backbone::resnet::engine::rows::{Outgoing, Source};
use crate::nn::backbone::resnet::engine::sums::{Moments, Sums};
use crate::nn::kernel::gemm::{Into, Threads, multiply};
use crate::nn::kernel::real::vectorised;
use filters::Order;
use pictures::{gather_input, transform_output};
use tiling::{Lines, Tiling, by_place, by_slab, place_stride, rows_at_a_time};

/// Tiles of all images.
pub(super) fn tiles(conv: &Convolution) -> usize {
    conv.images * conv.height.div_ceil(OUT) * conv.width.div_ceil(OUT)
}

impl Convolution {
    pub(super) fn winograd_forward<T: WithDType>(
        &self,
        source: Source<'_, T>,
        weight: &[T],
        out: &mut [T],
        buffers: &Buffers<T>,
        wants_moments: bool,
    ) -> Vec<Moments> {
        let (inputs, outputs, tiling) = (self.inputs, self.outputs, Tiling::of(self));
        let (in_image, out_line) = (self.height * self.width * inputs, self.width * outputs);
        let out_image = self.height * out_line;
        let filters = self.transform_filters(weight, Order::InputsFirst, buffers);
        let most = tiling.tiles(tiling.images);
        let mut tiles_in = buffers.take(PLACES * place_stride(most, inputs));
        let mut tiles_out = buffers.take(PLACES * place_stride(most, outputs));
        let mut moments = Vec::new();
        for (number, out) in out.chunks_mut(tiling.images * out_image).enumerate() {
            let images = out.len() / out_image;
            let tiles = tiling.tiles(images);
            let start = number * tiling.images * in_image;
            let source = source.part(start..start + images * in_image);
            let tiles_in = &mut tiles_in[..PLACES * place_stride(tiles, inputs)];
            let tiles_out = &mut tiles_out[..PLACES * place_stride(tiles, outputs)];
            self.transform_input(source, tiling, tiles_in, buffers);
            let shapes = [(tiles, outputs), (tiles, inputs), (inputs, outputs)];
            by_place(tiles_out, [tiles_in, &filters], shapes, |out, [x, filter]| {
                multiply(out, x, filter, Into::Replace, Threads::One);
            });
            let tiles_out = &*tiles_out;
            let slabs: Vec<_> = by_slab(out, out_image, out_line);
            let tasks = slabs.into_par_iter().with_min_len(rows_at_a_time(tiling, outputs));
            let parts = tasks.enumerate().map(|(row, slab)| {
                let first = row * tiling.columns;
                let shape = (tiles, self.width, outputs);
                vectorised(
                    #[inline(always)]
                    || transform_output(tiles_out, first, shape, slab),
                );
                wants_moments.then(|| Moments::of(slab, outputs))
            });
            moments.extend(parts.collect::<Vec<_>>().into_iter().flatten());
        }
        moments
    }

    pub(super) fn winograd_backward<T: WithDType>(
        &self,
        source: Source<'_, T>,
        weight: &[T],
        outgoing: Outgoing<'_, T>,
        wanted: Wanted<'_, T>,
        buffers: &Buffers<T>,
    ) -> Vec<Sums> {
        let (inputs, outputs, tiling) = (self.inputs, self.outputs, Tiling::of(self));
        let in_image = self.height * self.width * inputs;
        let out_image = self.height * self.width * outputs;
        let Wanted { weight: d_weight, input } = wanted;
        let filters =
            input.is_some().then(|| self.transform_filters(weight, Order::OutputsFirst, buffers));
        let mut d_filters =
            d_weight.is_some().then(|| buffers.take(PLACES * place_stride(inputs, outputs)));
        let (mut into, rectified) = match input {
            Some(Receiver { into, rectified }) => (Some(into), rectified),
            None => (None, None),
        };
        let most = tiling.tiles(tiling.images);
        let mut tiles_in = buffers.take(PLACES * place_stride(most, inputs));
        let mut tiles_out = buffers.take(PLACES * place_stride(most, outputs));
        let mut sums = Vec::new();
        for first in (0..self.images).step_by(tiling.images) {
            let images = tiling.images.min(self.images - first);
            let tiles = tiling.tiles(images);
            let range = first * in_image..(first + images) * in_image;
            let tiles_in = &mut tiles_in[..PLACES * place_stride(tiles, inputs)];
            let tiles_out = &mut tiles_out[..PLACES * place_stride(tiles, outputs)];
            let outgoing = outgoing.part(first * out_image..(first + images) * out_image);
            self.transform_outgoing(outgoing, tiling, tiles_out, buffers);
            let tiles_out = &*tiles_out;
            if let Some(d_filters) = &mut d_filters {
                self.transform_input(source.part(range.clone()), tiling, tiles_in, buffers);
                let into = if first == 0 { Into::Replace } else { Into::Add };
                let shapes = [(inputs, outputs), (tiles, inputs), (tiles, outputs)];
                by_place(d_filters, [tiles_in, tiles_out], shapes, |d_filter, [x, dz]| {
                    multiply(d_filter, x.transposed(), dz, into, Threads::One);
                });
            }
            let (Some(filters), Some(d_x)) = (&filters, &mut into) else { continue };
            let shapes = [(tiles, inputs), (tiles, outputs), (outputs, inputs)];
            by_place(tiles_in, [tiles_out, filters], shapes, |d_x, [dz, filter]| {
                multiply(d_x, dz, filter, Into::Replace, Threads::One);
            });
            let tiles_in = &*tiles_in;
            let line = self.width * inputs;
            let slabs = by_slab(&mut d_x[range.clone()], in_image, line);
            let tasks = slabs.into_par_iter().with_min_len(rows_at_a_time(tiling, inputs));
            let parts = tasks.enumerate().map(|(row, slab)| {
                let lines = Lines::around(row, tiling);
                let shape = (tiles, tiling.columns, self.width, inputs);
                vectorised(
                    #[inline(always)]
                    || gather_input(tiles_in, lines, shape, slab),
                );
                let start =
                    range.start + (row / tiling.rows) * in_image + (row % tiling.rows) * OUT * line;
                rectified.map(|rectified| rectified.part(start..start + slab.len()).pass(slab))
            });
            sums.extend(parts.collect::<Vec<_>>().into_iter().flatten());
        }
        if let (Some(d_weight), Some(d_filters)) = (d_weight, &d_filters) {
            self.transform_filters_back(d_filters, d_weight);
        }
        sums
    }
}
