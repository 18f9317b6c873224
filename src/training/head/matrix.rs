//! Rows of numbers in double precision, and the two sums that a probe is fitted with.

use rayon::prelude::*;

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

    /// How many rows there are.
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

    /// `scale · Xᵀ X` `[D][D]`. Each entry is one sum over the rows in their order, whatever the number of
    /// threads.
    pub(super) fn gram(&self, scale: f64) -> Vec<Vec<f64>> {
        let column = |at: usize| self.values.iter().skip(at).step_by(self.columns).copied();
        let columns: Vec<Vec<f64>> = (0..self.columns).map(|at| column(at).collect()).collect();
        let of = |one: &Vec<f64>| columns.iter().map(|other| scale * dot(one, other)).collect();
        columns.par_iter().map(of).collect()
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
