//! The cells of feature maps as rows of length 1, and the backward pass through them.

use candle_core::WithDType;
use rayon::prelude::*;

use super::SHORTEST;
use crate::nn::gemm::Matrix;

/// Channels that go from planes to rows, or back, at a time: lines of the cache are written whole.
const LINE: usize = 16;

/// The cells of some feature maps, each a row of unit length.
#[derive(Debug)]
pub(super) struct Cells<T> {
    /// `[images, cells, channels]`.
    rows: Vec<T>,
    /// Lengths before they were made 1; 0 for those too short to have a direction.
    lengths: Vec<T>,
    /// Cells of a map.
    pub(super) each: usize,
    channels: usize,
}

impl<T: WithDType> Cells<T> {
    /// The cells of maps `[images, channels, each]`.
    pub(super) fn new(maps: &[T], channels: usize, each: usize) -> Self {
        let mut rows = vec![T::zero(); maps.len()];
        let mut lengths = vec![T::zero(); maps.len() / channels];
        let size = channels * each;
        let images = rows.par_chunks_exact_mut(size).zip(lengths.par_chunks_exact_mut(each));
        images.zip(maps.par_chunks_exact(size)).for_each(|((rows, lengths), map)| {
            let mut squares = vec![0.0_f64; each];
            for plane in map.chunks_exact(each) {
                for (square, value) in squares.iter_mut().zip(plane) {
                    *square += value.to_f64() * value.to_f64();
                }
            }
            let mut inverses = vec![T::zero(); each];
            for ((square, length), inverse) in squares.iter().zip(lengths).zip(&mut inverses) {
                if *square >= SHORTEST * SHORTEST {
                    *length = T::from_f64(square.sqrt());
                    *inverse = T::from_f64(1.0 / square.sqrt());
                }
            }
            for first in (0..channels).step_by(LINE) {
                let together = first..(first + LINE).min(channels);
                for (cell, inverse) in inverses.iter().enumerate() {
                    let row = &mut rows[cell * channels..][together.clone()];
                    let values = map[first * each + cell..].iter().step_by(each);
                    for (value, own) in values.zip(row) {
                        *own = *value * *inverse;
                    }
                }
            }
        });
        Self { rows, lengths, each, channels }
    }

    /// Rows of consecutive maps.
    pub(super) fn of(&self, maps: std::ops::Range<usize>) -> Matrix<'_, T> {
        let size = self.each * self.channels;
        let rows = &self.rows[maps.start * size..maps.end * size];
        Matrix::new(rows, maps.len() * self.each, self.channels)
    }

    /// Lengths of the cells of a map.
    pub(super) fn lengths(&self, map: usize) -> &[T] {
        &self.lengths[map * self.each..(map + 1) * self.each]
    }

    /// The gradient of one map, `[channels, each]`, from that of its unit rows, `[each, channels]`:
    /// `∂q = (∂q̂ − q̂ (q̂·∂q̂)) / |q|`.
    pub(super) fn gradient(&self, map: usize, of_units: &[T], out: &mut [T]) {
        let size = self.each * self.channels;
        let units = &self.rows[map * size..(map + 1) * size];
        let rows = units.chunks_exact(self.channels).zip(of_units.chunks_exact(self.channels));
        let along = |(unit, gradient): (&[T], &[T])| {
            let mut along = T::zero();
            for (unit, gradient) in unit.iter().zip(gradient) {
                along += *unit * *gradient;
            }
            along
        };
        let along: Vec<T> = rows.map(along).collect();
        for first in (0..self.channels).step_by(LINE) {
            let together = first..(first + LINE).min(self.channels);
            for (cell, (along, length)) in along.iter().zip(self.lengths(map)).enumerate() {
                if *length == T::zero() {
                    continue;
                }
                let inverse = T::from_f64(1.0 / length.to_f64());
                let here = cell * self.channels;
                let rows = units[here..][together.clone()].iter();
                let rows = rows.zip(&of_units[here..][together.clone()]);
                let places = out[first * self.each + cell..].iter_mut().step_by(self.each);
                for (out, (unit, gradient)) in places.zip(rows) {
                    *out = (*gradient - *unit * *along) * inverse;
                }
            }
        }
    }
}
