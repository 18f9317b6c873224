//! The places of tiles: in an image, in the places of a transform, and on which side of each other.

use candle_core::WithDType;
use rayon::prelude::*;

use super::super::convolution::Convolution;
use super::super::transforms::{OUT, PLACES};
use crate::nn::backbone::resnet::engine::simd::LANES;
use crate::nn::kernel::gemm::{Matrix, Target};

/// Tiles that are multiplied at a time, at the least where there are so many.
const TILES: usize = 128;
/// Channels of tiles that a thread takes at a time, at the least.
const TASK: usize = 2048;

/// The places of tiles in an image.
#[derive(Clone, Copy)]
pub(super) struct Tiling {
    /// Rows of tiles of an image.
    pub(super) rows: usize,
    /// Tiles of such a row.
    pub(super) columns: usize,
    /// Images handled at a time.
    pub(super) images: usize,
}

impl Tiling {
    pub(super) fn of(conv: &Convolution) -> Self {
        let (rows, columns) = (conv.height.div_ceil(OUT), conv.width.div_ceil(OUT));
        Self { rows, columns, images: TILES.div_ceil(rows * columns).min(conv.images.max(1)) }
    }

    /// Tiles of `images` images.
    pub(super) fn tiles(&self, images: usize) -> usize {
        images * self.rows * self.columns
    }
}

/// Values from one place of transformed tiles, or filters, to the next. A transform touches every
/// place at once: apart by a multiple of a page they would all fall into the same set of the cache.
pub(super) fn place_stride(rows: usize, channels: usize) -> usize {
    rows * channels + LANES
}

/// Cuts `PLACES` places of `[tiles, channels]` into what each row of tiles owns of every place.
pub(super) fn by_tile_row<T>(
    all: &mut [T],
    tiles: usize,
    row: usize,
    channels: usize,
) -> Vec<Vec<&mut [T]>> {
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
pub(super) fn rows_at_a_time(tiling: Tiling, channels: usize) -> usize {
    (TASK / (tiling.columns * channels)).max(1)
}

/// Cuts the rows of some images into what each row of tiles covers: four lines, fewer at the end.
pub(super) fn by_slab<T>(all: &mut [T], image: usize, line: usize) -> Vec<&mut [T]> {
    all.chunks_mut(image).flat_map(|image| image.chunks_mut(OUT * line)).collect()
}

/// The matrix at the start of a place.
pub(super) fn first_place<T>(place: &[T], (rows, columns): (usize, usize)) -> Matrix<'_, T> {
    Matrix::new(&place[..rows * columns], rows, columns)
}

/// Does `work` for each place of three stacks of matrices of these shapes, the first the target.
pub(super) fn by_place<T: WithDType>(
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

/// The rows of tiles that reach into the lines of one: that row, and the ones above and below
/// where the image has them.
#[derive(Clone, Copy)]
pub(super) struct Lines {
    pub(super) above: Option<usize>,
    pub(super) own: usize,
    pub(super) below: Option<usize>,
}

impl Lines {
    pub(super) fn around(row: usize, tiling: Tiling) -> Self {
        let within = row % tiling.rows;
        Self {
            above: (within > 0).then(|| row - 1),
            own: row,
            below: (within + 1 < tiling.rows).then(|| row + 1),
        }
    }
}
