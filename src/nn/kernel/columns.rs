//! Sums over the rows of a matrix, always in the same order, whoever computes the parts.

use rayon::prelude::*;

use crate::nn::kernel::real::{Real, vectorised};

/// Rows that one part of a sum covers.
const ROWS: usize = 64;

/// The sum of the rows of `size` values each.
pub(in crate::nn) fn sum<T: Real>(x: &[T], size: usize) -> Vec<T> {
    let of_rows = |rows: &[T]| {
        let mut sums = vec![T::zero(); size];
        vectorised(
            #[inline(always)]
            || {
                for row in rows.chunks_exact(size) {
                    sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += *value);
                }
            },
        );
        sums
    };
    let parts: Vec<Vec<T>> = x.par_chunks(size * ROWS).map(of_rows).collect();
    add_up(&parts, size)
}

/// The sum of equally long parts, first to last.
pub(in crate::nn) fn add_up<T: Real>(parts: &[Vec<T>], size: usize) -> Vec<T> {
    let mut sums = vec![T::zero(); size];
    vectorised(
        #[inline(always)]
        || {
            for part in parts {
                sums.iter_mut().zip(part).for_each(|(sum, value)| *sum += *value);
            }
        },
    );
    sums
}
