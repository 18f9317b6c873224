//! Matrix products on slices: the one place where the `gemm` crate's raw pointers are handled.

use candle_core::WithDType;
use gemm::Parallelism;

/// A matrix in a slice: rows that lie one after the other, a range of their columns, or the
/// transpose of either.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a, T> {
    values: &'a [T],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// The matrix whose rows lie one after the other in `values`.
    pub(crate) fn new(values: &'a [T], rows: usize, columns: usize) -> Self {
        assert_eq!(values.len(), rows * columns, "a matrix fills its slice");
        Self { values, rows, columns, row_stride: columns, column_stride: 1 }
    }

    /// The same values seen as the transposed matrix.
    pub(crate) fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    /// Some of the columns of a matrix that is not transposed.
    pub(crate) fn columns(self, range: std::ops::Range<usize>) -> Self {
        assert!(self.column_stride == 1 && range.end <= self.columns, "columns that are there");
        Self { values: &self.values[range.start..], columns: range.len(), ..self }
    }

    fn fits(&self) -> bool {
        let last = |count: usize, stride: usize| count.saturating_sub(1) * stride;
        let end = last(self.rows, self.row_stride) + last(self.columns, self.column_stride);
        self.rows * self.columns == 0 || end < self.values.len()
    }
}

/// The place where a product goes: rows that lie one after the other, or a range of their columns.
pub(crate) struct Target<'a, T> {
    values: &'a mut [T],
    rows: usize,
    columns: usize,
    row_stride: usize,
}

impl<'a, T> Target<'a, T> {
    /// The matrix whose rows lie one after the other in `values`.
    pub(crate) fn new(values: &'a mut [T], rows: usize, columns: usize) -> Self {
        assert_eq!(values.len(), rows * columns, "a matrix fills its slice");
        Self { values, rows, columns, row_stride: columns }
    }

    /// Some of its columns.
    pub(crate) fn columns(self, range: std::ops::Range<usize>) -> Self {
        assert!(range.end <= self.columns, "columns that are there");
        Self { values: &mut self.values[range.start..], columns: range.len(), ..self }
    }
}

/// The choice whether a product replaces what is there or is added to it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Into {
    Replace,
    Add,
}

/// The choice whether a product is computed on one thread or shared out over the pool. Every output
/// is summed by one thread in one order either way.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Threads {
    One,
    Pool,
}

/// `out (+)= left * right`.
#[expect(unsafe_code, reason = "the gemm crate works on raw pointers")]
#[expect(clippy::needless_pass_by_value, reason = "a target is a borrow, used up by its product")]
pub(crate) fn multiply<T: WithDType>(
    out: Target<'_, T>,
    left: Matrix<'_, T>,
    right: Matrix<'_, T>,
    into: Into,
    threads: Threads,
) {
    let (m, n, k) = (left.rows, right.columns, left.columns);
    assert_eq!(k, right.rows, "inner sizes agree");
    assert_eq!((out.rows, out.columns), (m, n), "the target has the product's shape");
    assert!(left.fits() && right.fits(), "both factors lie in their slices");
    if m * n == 0 {
        return;
    }
    assert!((m - 1) * out.row_stride + n <= out.values.len(), "the target lies in its slice");
    let parallelism = match threads {
        Threads::One => Parallelism::None,
        Threads::Pool => Parallelism::Rayon(rayon::current_num_threads()),
    };
    let one = T::from_f64(1.0);
    // SAFETY: the assertions above keep every access within its slice; the strides are those that
    // the matrices were made with, and the target is borrowed mutably.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.values.as_mut_ptr(),
            1,
            out.row_stride as isize,
            into == Into::Add,
            left.values.as_ptr(),
            left.column_stride as isize,
            left.row_stride as isize,
            right.values.as_ptr(),
            right.column_stride as isize,
            right.row_stride as isize,
            one,
            one,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// `out = left * right` for square matrices of side `side`, row by row, on `threads` threads: the
/// measure of what a machine can do.
pub fn square(out: &mut [f32], left: &[f32], right: &[f32], side: usize, threads: usize) {
    let threads = if threads > 1 { Threads::Pool } else { Threads::One };
    let (left, right) = (Matrix::new(left, side, side), Matrix::new(right, side, side));
    multiply(Target::new(out, side, side), left, right, Into::Replace, threads);
}
