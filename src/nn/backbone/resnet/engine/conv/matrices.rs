//! Sums and transposes of matrices on all threads, in an order that the sizes alone decide.

use candle_core::WithDType;
use rayon::prelude::*;

use crate::nn::backbone::resnet::engine::buffers::{Buffer, Buffers};
use crate::nn::kernel::real::vectorised;

/// Adds up equally long vectors, in their order, on all threads.
pub(super) fn add_up<T: WithDType>(
    into: &mut [T],
    parts: &[impl std::ops::Deref<Target = [T]> + Sync],
) {
    const CHUNK: usize = 1 << 13;
    into.par_chunks_mut(CHUNK).enumerate().for_each(|(number, into)| {
        into.fill(T::zero());
        for part in parts {
            let part = &part[number * CHUNK..][..into.len()];
            vectorised(
                #[inline(always)]
                || {
                    into.iter_mut().zip(part).for_each(|(sum, value)| *sum += *value);
                },
            );
        }
    });
}

/// The transpose of a matrix of `rows` rows, a square that fits the registers at a time.
pub(super) fn transpose<T: WithDType>(
    matrix: &[T],
    rows: usize,
    buffers: &Buffers<T>,
) -> Buffer<T> {
    const SIDE: usize = 16;
    let columns = matrix.len() / rows;
    let mut out = buffers.take(matrix.len());
    out.par_chunks_mut(SIDE * rows).enumerate().for_each(|(number, out)| {
        let (first, width) = (number * SIDE, out.len() / rows);
        let mut square = [[T::zero(); SIDE]; SIDE];
        for start in (0..rows).step_by(SIDE) {
            let height = SIDE.min(rows - start);
            for row in 0..height {
                let from = (start + row) * columns + first;
                square[row][..width].copy_from_slice(&matrix[from..from + width]);
            }
            for (at, out) in out.chunks_exact_mut(rows).enumerate() {
                for (row, out) in out[start..start + height].iter_mut().enumerate() {
                    *out = square[row][at];
                }
            }
        }
    });
    out
}
