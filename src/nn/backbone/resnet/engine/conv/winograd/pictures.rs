//! Rows of images into tiles of thirty-six places, and back from there.

use candle_core::WithDType;
use rayon::prelude::*;

use super::super::convolution::Convolution;
use super::super::transforms::{
    OUT, PLACES, TILE, both, input, input_transposed, load, output, output_transposed, scatter,
};
use super::tiling::{Lines, Tiling, by_tile_row, place_stride, rows_at_a_time};
use crate::nn::backbone::resnet::engine::buffers::Buffers;
use crate::nn::backbone::resnet::engine::rows::{Outgoing, Source};
use crate::nn::backbone::resnet::engine::simd::{LANES, Lanes};
use crate::nn::kernel::real::vectorised;

impl Convolution {
    /// The values that each row of tiles owns of every place, as tasks.
    fn tile_rows<T: WithDType>(
        all: &mut [T],
        tiling: Tiling,
        channels: usize,
    ) -> impl IndexedParallelIterator<Item = (usize, Vec<&mut [T]>)> {
        let tiles = (all.len() / PLACES - LANES) / channels;
        let rows = by_tile_row(all, tiles, tiling.columns, channels);
        rows.into_par_iter().with_min_len(rows_at_a_time(tiling, channels)).enumerate()
    }

    /// `V = Bᵀ d B` of every tile of some images: `[PLACES, tiles, C]`.
    pub(super) fn transform_input<T: WithDType>(
        &self,
        source: Source<'_, T>,
        tiling: Tiling,
        tiles_in: &mut [T],
        buffers: &Buffers<T>,
    ) {
        let (channels, line) = (self.inputs, self.width * self.inputs);
        let columns = OUT * tiling.columns + 2;
        let tasks = Self::tile_rows(tiles_in, tiling, channels);
        let scratch = || buffers.take(TILE * columns * channels);
        tasks.for_each_init(scratch, |scratch, (number, mut places)| {
            let (image, row) = (number / tiling.rows, number % tiling.rows);
            for (at, out) in scratch.chunks_exact_mut(columns * channels).enumerate() {
                // The tile begins one line above its outputs and one position before them.
                let Some(y) = (row * OUT + at).checked_sub(1).filter(|y| *y < self.height) else {
                    out.fill(T::zero());
                    continue;
                };
                let start = (image * self.height + y) * line;
                let (before, out) = out.split_at_mut(channels);
                let (out, after) = out.split_at_mut(line);
                before.fill(T::zero());
                source.part(start..start + line).write(out);
                after.fill(T::zero());
            }
            vectorised(
                #[inline(always)]
                || {
                    for column in 0..tiling.columns {
                        for first in (0..channels).step_by(LANES) {
                            let start = column * OUT * channels + first;
                            let d = load::<T, TILE>(scratch, start, channels, columns * channels);
                            let v = both::<T, TILE, TILE>(&d, input);
                            scatter(&v, &mut places, column * channels + first);
                        }
                    }
                },
            );
        });
    }

    /// `dM = A dY Aᵀ` of every tile of some images: `[PLACES, tiles, O]`.
    pub(super) fn transform_outgoing<T: WithDType>(
        &self,
        outgoing: Outgoing<'_, T>,
        tiling: Tiling,
        tiles_out: &mut [T],
        buffers: &Buffers<T>,
    ) {
        let (channels, line) = (self.outputs, self.width * self.outputs);
        let columns = OUT * tiling.columns;
        let tasks = Self::tile_rows(tiles_out, tiling, channels);
        let scratch = || buffers.take(OUT * columns * channels);
        tasks.for_each_init(scratch, |scratch, (number, mut places)| {
            let (image, row) = (number / tiling.rows, number % tiling.rows);
            for (at, out) in scratch.chunks_exact_mut(columns * channels).enumerate() {
                let y = row * OUT + at;
                if y >= self.height {
                    out.fill(T::zero());
                    continue;
                }
                let start = (image * self.height + y) * line;
                let (out, after) = out.split_at_mut(line);
                outgoing.part(start..start + line).write(out);
                after.fill(T::zero());
            }
            vectorised(
                #[inline(always)]
                || {
                    for column in 0..tiling.columns {
                        for first in (0..channels).step_by(LANES) {
                            let start = column * OUT * channels + first;
                            let y = load::<T, OUT>(scratch, start, channels, columns * channels);
                            let m = both::<T, OUT, TILE>(&y, output_transposed);
                            scatter(&m, &mut places, column * channels + first);
                        }
                    }
                },
            );
        });
    }
}

/// `Y = Aᵀ M A` of the row of tiles from `first` on, written to the lines that it covers.
#[inline(always)]
pub(super) fn transform_output<T: WithDType>(
    tiles_out: &[T],
    first: usize,
    (tiles, width, channels): (usize, usize, usize),
    slab: &mut [T],
) {
    let lines = slab.len() / (width * channels);
    let place = place_stride(tiles, channels);
    for column in 0..width.div_ceil(OUT) {
        for channel in (0..channels).step_by(LANES) {
            let start = (first + column) * channels + channel;
            let m = load::<T, TILE>(tiles_out, start, place, TILE * place);
            let y = both::<T, TILE, OUT>(&m, output);
            for line in 0..lines.min(OUT) {
                for at in 0..OUT.min(width - column * OUT) {
                    let to = (line * width + column * OUT + at) * channels + channel;
                    y[line][at].store(&mut slab[to..]);
                }
            }
        }
    }
}

/// `dd = B dV Bᵀ` of a row of tiles and of the neighbours' lines that overlap it, added up in the
/// lines that the row covers.
#[inline(always)]
pub(super) fn gather_input<T: WithDType>(
    tiles_in: &[T],
    rows: Lines,
    (tiles, columns, width, channels): (usize, usize, usize, usize),
    slab: &mut [T],
) {
    let lines = (slab.len() / (width * channels)).min(OUT);
    let place = place_stride(tiles, channels);
    for column in 0..columns {
        for first in (0..channels).step_by(LANES) {
            let start = |row: usize| (row * columns + column) * channels + first;
            let tile = load::<T, TILE>(tiles_in, start(rows.own), place, TILE * place);
            // Down the columns first: of that the neighbours give one line each.
            let mut half = [[Lanes::zero(); TILE]; OUT];
            for x in 0..TILE {
                let mut down = [Lanes::zero(); TILE];
                for y in 0..TILE {
                    down[y] = tile[y][x];
                }
                let done = input_transposed(down);
                for y in 0..OUT {
                    half[y][x] = done[y + 1];
                }
                if let Some(above) = rows.above {
                    let last = (TILE - 1) * TILE + x;
                    half[0][x] += Lanes::load(&tiles_in[start(above) + last * place..]);
                }
                if let Some(below) = rows.below {
                    half[OUT - 1][x] += Lanes::load(&tiles_in[start(below) + x * place..]);
                }
            }
            for y in 0..lines {
                let across = input_transposed(half[y]);
                for x in 0..TILE {
                    // The tile begins one position before its outputs, and shares two with the
                    // tile before it.
                    let Some(to) = (column * OUT + x).checked_sub(1).filter(|to| *to < width)
                    else {
                        continue;
                    };
                    let at = (y * width + to) * channels + first;
                    let is_shared = column > 0 && x < TILE - OUT;
                    let before = if is_shared { Lanes::load(&slab[at..]) } else { Lanes::zero() };
                    (before + across[x]).store(&mut slab[at..]);
                }
            }
        }
    }
}
