//! Linear discriminant analysis with a shrunken covariance, which has an answer for any number of
//! images.
//!
//! Classes are taken for normal with means `mₖ` and one covariance `Σ`, so that
//! `zₖ = mₖᵀ Σ⁻¹ x − ½ mₖᵀ Σ⁻¹ mₖ + log πₖ` (Hastie, Tibshirani and Friedman, eq. 4.10), and `Σ` is
//! estimated by `(1 − s) S + s μ I` with the pooled covariance `S` within classes, `μ = tr(S) / D`
//! and the shrinkage `s` of Ledoit and Wolf (2004, eq. 14), as scikit-learn's `ledoit_wolf` has it.

use super::logistic::Solution;
use super::matrix::{Rows, add_scaled, dot};
use super::span::Span;

/// Of the mean square of the features, what is added to the diagonal so that it can always be divided by,
/// though the images of a class be all alike.
const RIDGE: f64 = 1e-9;

/// A fitted discriminant.
#[derive(Debug, Clone, PartialEq)]
pub struct Discriminant {
    /// Its weights and biases.
    pub solution: Solution,
    /// The shrinkage `s`, 0 to 1.
    pub shrinkage: f64,
}

/// Fits the discriminant of rows `[N, D]` whose classes are `labels`, each below `classes` and with at
/// least one row. `dimensions` of the columns vary; the others are zero everywhere.
pub fn fit(rows: &Rows, labels: &[usize], classes: usize, dimensions: usize) -> Discriminant {
    if Span::pays(rows) {
        let (span, seen) = Span::of(rows);
        let found = within(&seen, labels, classes, dimensions);
        return Discriminant { solution: span.lift(&found.solution), ..found };
    }
    within(rows, labels, classes, dimensions)
}

/// The same without looking at the span of the rows.
fn within(rows: &Rows, labels: &[usize], classes: usize, dimensions: usize) -> Discriminant {
    let (count, columns) = (rows.count() as f64, rows.columns());
    let (means, counts) = means(rows, labels, classes);
    let mut left = Rows::new(columns);
    for (row, label) in rows.iter().zip(labels) {
        let mut residual = row.to_vec();
        add_scaled(&mut residual, -1.0, means.row(*label));
        left.push(&residual);
    }
    let mut covariance = left.gram(1.0 / count);
    let spread = Spread::of(&left, &covariance, dimensions);
    let shrinkage = spread.shrinkage();
    let squares: f64 = rows.iter().map(|row| dot(row, row)).sum();
    let square = squares / (count * dimensions.max(1) as f64);
    // Where no class varies, as with one image each, all directions count alike, in the unit that the
    // features have: logits then have the size that they have where there is a spread.
    let ridge = match (square > 0.0, spread.mean > RIDGE * square) {
        (true, true) => RIDGE * square,
        (true, false) => square,
        (false, _) => 1.0,
    };
    for (at, row) in covariance.iter_mut().enumerate() {
        row.iter_mut().for_each(|value| *value *= 1.0 - shrinkage);
        row[at] += shrinkage * spread.mean + ridge;
    }
    let factor = cholesky(covariance);
    let mut weight = Rows::new(columns);
    let mut bias = Vec::with_capacity(classes);
    for (mean, count_of) in means.iter().zip(&counts) {
        let solved = solve(&factor, mean);
        bias.push((count_of / count).ln() - 0.5 * dot(&solved, mean));
        weight.push(&solved);
    }
    Discriminant { solution: Solution::from_parts(&weight, &bias), shrinkage }
}

/// Mean of each class, and how many rows it has.
fn means(rows: &Rows, labels: &[usize], classes: usize) -> (Rows, Vec<f64>) {
    let mut sums = vec![vec![0.0; rows.columns()]; classes];
    let mut counts = vec![0.0_f64; classes];
    for (row, label) in rows.iter().zip(labels) {
        add_scaled(&mut sums[*label], 1.0, row);
        counts[*label] += 1.0;
    }
    let mut means = Rows::new(rows.columns());
    for (sum, count) in sums.iter_mut().zip(&counts) {
        sum.iter_mut().for_each(|value| *value /= count.max(1.0));
        means.push(sum);
    }
    (means, counts)
}

/// The spread that the shrinkage is made of, each part divided by the dimensions `D`.
struct Spread {
    /// `μ = tr(S) / D`, the mean variance.
    mean: f64,
    /// `‖S − μI‖² / D`.
    distance: f64,
    /// The error of `S`: `Σᵢ ‖xᵢ xᵢᵀ − S‖² / (n² D)`.
    error: f64,
}

impl Spread {
    fn of(left: &Rows, covariance: &[Vec<f64>], dimensions: usize) -> Self {
        let (count, dimensions) = (left.count() as f64, dimensions.max(1) as f64);
        let trace: f64 = covariance.iter().enumerate().map(|(at, row)| row[at]).sum();
        let squares: f64 = covariance.iter().map(|row| dot(row, row)).sum();
        let fourth: f64 = left.iter().map(|row| dot(row, row).powi(2)).sum();
        let mean = trace / dimensions;
        Self {
            mean,
            distance: squares / dimensions - mean * mean,
            error: (fourth / count - squares) / (count * dimensions),
        }
    }

    fn shrinkage(&self) -> f64 {
        let error = self.error.clamp(0.0, self.distance.max(0.0));
        if error > 0.0 { error / self.distance } else { 0.0 }
    }
}

/// The lower triangle `L` with `L Lᵀ = A`, of a positive definite `A`.
fn cholesky(mut matrix: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
    for at in 0..matrix.len() {
        let (done, rest) = matrix.split_at_mut(at);
        let Some(row) = rest.first_mut() else { break };
        for (column, above) in done.iter().enumerate() {
            let product = dot(&row[..column], &above[..column]);
            row[column] = (row[column] - product) / above[column];
        }
        let own = row[at] - dot(&row[..at], &row[..at]);
        row[at] = own.max(f64::MIN_POSITIVE).sqrt();
    }
    matrix
}

/// `A⁻¹ b` by the triangle of `A`.
fn solve(factor: &[Vec<f64>], right: &[f64]) -> Vec<f64> {
    let mut found = right.to_vec();
    for (at, row) in factor.iter().enumerate() {
        let product = dot(&row[..at], &found[..at]);
        found[at] = (found[at] - product) / row[at];
    }
    for (at, row) in factor.iter().enumerate().rev() {
        found[at] /= row[at];
        let value = found[at];
        add_scaled(&mut found[..at], -value, &row[..at]);
    }
    found
}
