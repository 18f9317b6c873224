//! 3x3 convolutions of stride 1 as thirty-six products of transformed tiles.
//!
//! Images are handled a few at a time, so that their transformed tiles stay in the cache: tiles are
//! transformed (shared out by rows of tiles), multiplied (shared out by place in the tile) and
//! transformed back. A quarter of the multiplications of the plain way is left.

use candle_core::WithDType;
use rayon::prelude::*;

use super::transforms::{
    OUT, PLACES, TILE, both, filter, filter_transposed, input, input_transposed, load, output,
    output_transposed, scatter,
};
use super::{Convolution, Receiver, Wanted};
use crate::nn::engine::buffers::{Buffer, Buffers};
use crate::nn::engine::rows::{Outgoing, Source};
use crate::nn::engine::simd::{LANES, Lanes};
use crate::nn::engine::sums::{Moments, Sums};
use crate::nn::gemm::{Into, Matrix, Target, Threads, multiply};
use crate::nn::real::vectorised;

/// Tiles that are multiplied at a time, at the least where there are so many.
const TILES: usize = 128;
/// Channels of tiles that a thread takes at a time, at the least.
const TASK: usize = 2048;
/// Inputs, or outputs, whose filters one task transforms.
const FILTERS: usize = 8;

/// Which side of the transformed filters comes first.
#[derive(Clone, Copy)]
enum Order {
    InputsFirst,
    OutputsFirst,
}

/// Tiles of all images.
pub(super) fn tiles(conv: &Convolution) -> usize {
    conv.images * conv.height.div_ceil(OUT) * conv.width.div_ceil(OUT)
}

/// Where tiles lie in an image.
#[derive(Clone, Copy)]
struct Tiling {
    /// Rows of tiles of an image.
    rows: usize,
    /// Tiles of such a row.
    columns: usize,
    /// Images handled at a time.
    images: usize,
}

impl Tiling {
    fn of(conv: &Convolution) -> Self {
        let (rows, columns) = (conv.height.div_ceil(OUT), conv.width.div_ceil(OUT));
        Self { rows, columns, images: TILES.div_ceil(rows * columns).min(conv.images.max(1)) }
    }

    /// Tiles of `images` images.
    fn tiles(&self, images: usize) -> usize {
        images * self.rows * self.columns
    }
}

/// Values from one place of transformed tiles, or filters, to the next. A transform touches every
/// place at once: apart by a multiple of a page they would all fall into the same set of the cache.
fn place_stride(rows: usize, channels: usize) -> usize {
    rows * channels + LANES
}

/// Cuts `PLACES` places of `[tiles, channels]` into what each row of tiles owns of every place.
fn by_tile_row<T>(all: &mut [T], tiles: usize, row: usize, channels: usize) -> Vec<Vec<&mut [T]>> {
    let mut rows: Vec<Vec<&mut [T]>> =
        (0..tiles / row).map(|_| Vec::with_capacity(PLACES)).collect();
    for place in all.chunks_exact_mut(place_stride(tiles, channels)) {
        let place = &mut place[..tiles * channels];
        for (own, part) in rows.iter_mut().zip(place.chunks_exact_mut(row * channels)) {
            own.push(part);
        }
    }
    rows
}

/// Rows of tiles that a thread takes at a time: enough to be worth the handing out.
fn rows_at_a_time(tiling: Tiling, channels: usize) -> usize {
    (TASK / (tiling.columns * channels)).max(1)
}

/// Cuts the rows of some images into what each row of tiles covers: four lines, fewer at the end.
fn by_slab<T>(all: &mut [T], image: usize, line: usize) -> Vec<&mut [T]> {
    all.chunks_mut(image).flat_map(|image| image.chunks_mut(OUT * line)).collect()
}

/// The matrix at the start of a place.
fn first_place<T>(place: &[T], (rows, columns): (usize, usize)) -> Matrix<'_, T> {
    Matrix::new(&place[..rows * columns], rows, columns)
}

/// Does `work` for each place of three stacks of matrices of these shapes, the first the target.
fn by_place<T: WithDType>(
    target: &mut [T],
    factors: [&[T]; 2],
    shapes: [(usize, usize); 3],
    work: impl Fn(Target<'_, T>, [Matrix<'_, T>; 2]) + Sync,
) {
    let [stride, left, right] = shapes.map(|(rows, columns)| place_stride(rows, columns));
    let [of_target, of_left, of_right] = shapes;
    target
        .par_chunks_exact_mut(stride)
        .zip(factors[0].par_chunks_exact(left))
        .zip(factors[1].par_chunks_exact(right))
        .for_each(|((target, left), right)| {
            let (rows, columns) = of_target;
            let target = Target::new(&mut target[..rows * columns], rows, columns);
            work(target, [first_place(left, of_left), first_place(right, of_right)]);
        });
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

    /// `U = G g Gᵀ`: `[PLACES, C, O]` for the way forward, `[PLACES, O, C]` for the way back.
    fn transform_filters<T: WithDType>(
        &self,
        weight: &[T],
        order: Order,
        buffers: &Buffers<T>,
    ) -> Buffer<T> {
        // Places of a filter in the weight, along the outer and the inner side.
        let (from_input, from_output) = ((self.inputs, 9), (self.outputs, 9 * self.inputs));
        let (outer, inner) = match order {
            Order::InputsFirst => (from_input, from_output),
            Order::OutputsFirst => (from_output, from_input),
        };
        let mut filters = buffers.take(PLACES * place_stride(self.inputs, self.outputs));
        let parts = by_tile_row(&mut filters, outer.0, FILTERS, inner.0);
        parts.into_par_iter().enumerate().for_each(|(part, mut places)| {
            vectorised(
                #[inline(always)]
                || {
                    for own in 0..FILTERS {
                        let line = (part * FILTERS + own) * outer.1;
                        for first in (0..inner.0).step_by(LANES) {
                            let mut g = [[Lanes::zero(); 3]; 3];
                            for (tap, lanes) in g.as_flattened_mut().iter_mut().enumerate() {
                                let start = line + first * inner.1 + tap;
                                *lanes = Lanes::gather(weight, start, inner.1);
                            }
                            let u = both::<T, 3, TILE>(&g, filter);
                            scatter(&u, &mut places, own * inner.0 + first);
                        }
                    }
                },
            );
        });
        filters
    }

    /// `dg = Gᵀ dU G`
    fn transform_filters_back<T: WithDType>(&self, d_filters: &[T], d_weight: &mut [T]) {
        let (inputs, outputs) = (self.inputs, self.outputs);
        d_weight.par_chunks_exact_mut(LANES * inputs * 9).enumerate().for_each(|(part, out)| {
            vectorised(
                #[inline(always)]
                || {
                    for input in 0..inputs {
                        let start = input * outputs + part * LANES;
                        let place = place_stride(inputs, outputs);
                        let u = load::<T, TILE>(d_filters, start, place, TILE * place);
                        let g = both::<T, TILE, 3>(&u, filter_transposed);
                        for lane in 0..LANES {
                            let out = &mut out[(lane * inputs + input) * 9..][..9];
                            for (at, out) in out.iter_mut().enumerate() {
                                *out = g[at / 3][at % 3].get(lane);
                            }
                        }
                    }
                },
            );
        });
    }

    /// What each row of tiles owns of every place, as tasks.
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
    fn transform_input<T: WithDType>(
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
    fn transform_outgoing<T: WithDType>(
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
fn transform_output<T: WithDType>(
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

/// The rows of tiles that reach into the lines of one: that row, and the ones above and below
/// where the image has them.
#[derive(Clone, Copy)]
struct Lines {
    above: Option<usize>,
    own: usize,
    below: Option<usize>,
}

impl Lines {
    fn around(row: usize, tiling: Tiling) -> Self {
        let within = row % tiling.rows;
        Self {
            above: (within > 0).then(|| row - 1),
            own: row,
            below: (within + 1 < tiling.rows).then(|| row + 1),
        }
    }
}

/// `dd = B dV Bᵀ` of a row of tiles and of the neighbours' lines that overlap it, added up in the
/// lines that the row covers.
#[inline(always)]
fn gather_input<T: WithDType>(
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
