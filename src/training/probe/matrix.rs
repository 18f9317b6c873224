//! Rows of numbers in double precision, and the two sums that a probe is fitted with.

use std::ops::Range;

use crate::nn::gemm::{Into, Matrix, Target, Threads, multiply};

/// A matrix, row by row. Either side may be empty.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    values: Vec<f64>,
    count: usize,
    columns: usize,
}

impl Rows {
    /// No rows yet, each to be of `columns` numbers.
    pub fn new(columns: usize) -> Self {
        Self { values: Vec::new(), count: 0, columns }
    }

    /// Appends a row.
    ///
    /// # Panics
    /// When the row is not as long as the others.
    pub fn push(&mut self, row: &[f64]) {
        assert_eq!(row.len(), self.columns, "rows are of one length");
        self.values.extend_from_slice(row);
        self.count += 1;
    }

    /// The number of rows.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Numbers in a row.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The row at `at`.
    pub fn row(&self, at: usize) -> &[f64] {
        &self.values[at * self.columns..(at + 1) * self.columns]
    }

    /// The values of some rows, one row after the other.
    pub(super) fn values(&self, rows: Range<usize>) -> &[f64] {
        &self.values[rows.start * self.columns..rows.end * self.columns]
    }

    /// The products of `rows`, one after the other, with each of these: `R Xᵀ`.
    pub(super) fn products(&self, rows: &[f64]) -> Vec<f64> {
        let count = rows.len() / self.columns.max(1);
        let mut found = vec![0.0; count * self.count];
        let (left, right) = (Matrix::new(rows, count, self.columns), self.matrix().transposed());
        multiply(
            Target::new(&mut found, count, self.count),
            left,
            right,
            Into::Replace,
            Threads::One,
        );
        found
    }

    /// Takes so much of each of these as `factors` has away from `rows`: `R − F X`.
    pub(super) fn take_away(&self, factors: &[f64], rows: &mut [f64]) {
        let count = rows.len() / self.columns.max(1);
        let negative: Vec<f64> = factors.iter().map(|factor| -factor).collect();
        let left = Matrix::new(&negative, count, self.count);
        let target = Target::new(rows, count, self.columns);
        multiply(target, left, self.matrix(), Into::Add, Threads::One);
    }

    fn matrix(&self) -> Matrix<'_, f64> {
        Matrix::new(&self.values, self.count, self.columns)
    }

    /// `scale · Xᵀ X` `[D][D]`. Each entry is one sum over the rows in one order, whatever the number of
    /// threads.
    pub(super) fn gram(&self, scale: f64) -> Vec<Vec<f64>> {
        let mut product = vec![0.0; self.columns * self.columns];
        let rows = self.matrix();
        let target = Target::new(&mut product, self.columns, self.columns);
        multiply(target, rows.transposed(), rows, Into::Replace, Threads::Pool);
        product.iter_mut().for_each(|value| *value *= scale);
        product.chunks(self.columns.max(1)).map(<[f64]>::to_vec).collect()
    }

    /// Every row, in order.
    pub fn iter(&self) -> impl Iterator<Item = &[f64]> {
        (0..self.count).map(|at| self.row(at))
    }
}

/// `Σ aᵢbᵢ`, as four partial sums in a fixed order: the compiler may vectorise it, and the result
/// is the same on every run.
pub(super) fn dot(one: &[f64], other: &[f64]) -> f64 {
    let mut sums = [0.0_f64; 4];
    let (ones, one_rest) = one.as_chunks::<4>();
    let (others, other_rest) = other.as_chunks::<4>();
    for (a, b) in ones.iter().zip(others) {
        for lane in 0..4 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f64 = one_rest.iter().zip(other_rest).map(|(a, b)| a * b).sum();
    (sums[0] + sums[1]) + (sums[2] + sums[3]) + rest
}

/// `out += factor · row`.
pub(super) fn add_scaled(out: &mut [f64], factor: f64, row: &[f64]) {
    for (out, value) in out.iter_mut().zip(row) {
        *out += factor * value;
    }
}
