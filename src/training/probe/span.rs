//! The few directions that a handful of images spans among many features.
//!
//! With a quadratic penalty, the weights of every class lie in the span of the images (a part at
//! right angles to it changes no prediction and costs). Seen in an orthonormal basis `Q` `[r, D]`
//! of that span the problem has `r <= n` columns instead of `D` and the same solution:
//! `x = Qᵀz`, `W = V Q`, `‖W‖ = ‖V‖`.

use super::logistic::Solution;
use super::matrix::{Rows, add_scaled, dot};

/// The rest of a row, relative to the row, below which it counts as spanned by the others.
const NEGLIGIBLE: f64 = 1e-10;
/// Rows that are freed of the directions so far at a time.
const BLOCK: usize = 32;

/// An orthonormal basis, one direction a row.
#[derive(Debug, Clone)]
pub struct Span {
    basis: Rows,
}

impl Span {
    /// Whether looking at the span pays: finding it costs about `2n²D`, and saves `1 − n/D` of
    /// every step of every candidate.
    pub fn pays(rows: &Rows) -> bool {
        2 * rows.count() <= rows.columns()
    }

    /// The span of `rows`, and the rows in its coordinates.
    ///
    /// Gram-Schmidt by blocks of rows: each is freed of the directions so far by two matrix products, and
    /// then row by row of those of its own block. Gram-Schmidt loses orthogonality to rounding once, and
    /// not when it is done twice.
    pub fn of(rows: &Rows) -> (Self, Rows) {
        let columns = rows.columns();
        let mut basis = Rows::new(columns);
        let mut coordinates = Vec::with_capacity(rows.count());
        for at in (0..rows.count()).step_by(BLOCK) {
            let block = at..rows.count().min(at + BLOCK);
            let before = basis.count();
            let mut left = rows.values(block.clone()).to_vec();
            let mut along = vec![0.0; block.len() * before];
            for _ in 0..2 {
                let parts = basis.products(&left);
                along.iter_mut().zip(&parts).for_each(|(total, part)| *total += part);
                basis.take_away(&parts, &mut left);
            }
            for (number, of) in block.enumerate() {
                let row = &mut left[number * columns..(number + 1) * columns];
                let mut along = along[number * before..(number + 1) * before].to_vec();
                along.resize(basis.count(), 0.0);
                for _ in 0..2 {
                    let own = basis.iter().zip(&mut along).skip(before);
                    for (direction, total) in own {
                        let part = dot(direction, row);
                        add_scaled(row, -part, direction);
                        *total += part;
                    }
                }
                let length = dot(row, row).sqrt();
                let whole = rows.row(of);
                if length > NEGLIGIBLE * dot(whole, whole).sqrt() {
                    row.iter_mut().for_each(|value| *value /= length);
                    basis.push(row);
                    along.push(length);
                }
                coordinates.push(along);
            }
        }
        let mut seen = Rows::new(basis.count());
        for mut row in coordinates {
            row.resize(basis.count(), 0.0);
            seen.push(&row);
        }
        (Self { basis }, seen)
    }

    /// Other rows in the coordinates of the span; what lies outside of it is dropped.
    pub fn coordinates(&self, rows: &Rows) -> Rows {
        let mut seen = Rows::new(self.basis.count());
        let along = self.basis.products(rows.values(0..rows.count()));
        along.chunks(self.basis.count().max(1)).for_each(|row| seen.push(row));
        // Without a direction nothing is left of any row.
        (seen.count()..rows.count()).for_each(|_| seen.push(&[]));
        seen
    }

    /// The solution over all features of one over the coordinates: `W = V Q`.
    pub fn lift(&self, solution: &Solution) -> Solution {
        let mut weight = Rows::new(self.basis.columns());
        for class in 0..solution.bias().len() {
            let mut row = vec![0.0; self.basis.columns()];
            for (factor, direction) in solution.weight(class).iter().zip(self.basis.iter()) {
                add_scaled(&mut row, *factor, direction);
            }
            weight.push(&row);
        }
        Solution::from_parts(&weight, solution.bias())
    }
}

#[cfg(test)]
mod tests {
    use super::{Rows, Span, add_scaled, dot};
    use crate::training::probe::lbfgs::Stop;
    use crate::training::probe::logistic::Problem;

    fn rows() -> Rows {
        let mut rows = Rows::new(40);
        for at in 0..8_u8 {
            // The last two repeat the first two, as two frames of one picture may.
            let t = f64::from(at % 6);
            let row: Vec<f64> = (0..40_u8).map(|d| (t * 2.3 + f64::from(d) * 1.1).sin()).collect();
            let curved: Vec<f64> = row.iter().map(|x| x * x * x + t * x * x).collect();
            rows.push(&curved);
        }
        rows
    }

    #[test]
    fn coordinates_keep_every_angle_and_length() {
        let rows = rows();

        let (span, seen) = Span::of(&rows);

        assert!(seen.columns() <= 6);
        assert_eq!(span.coordinates(&rows).columns(), seen.columns());
        for one in 0..8 {
            for other in 0..8 {
                let expected = dot(rows.row(one), rows.row(other));
                assert!((dot(seen.row(one), seen.row(other)) - expected).abs() < 1e-9);
            }
        }
    }

    /// More rows than a block has, some of them sums of others.
    #[test]
    fn directions_of_many_rows_are_orthonormal_and_as_many_as_there_are() {
        let mut rows = Rows::new(200);
        for at in 0..90_u8 {
            let t = f64::from(at % 70);
            let row: Vec<f64> =
                (0..200_u8).map(|d| (t * t + 0.37 * f64::from(d) * t).sin()).collect();
            rows.push(&row);
        }

        let (span, seen) = Span::of(&rows);

        assert_eq!(seen.columns(), 69, "the first row is zero");
        for (one, direction) in span.basis.iter().enumerate() {
            for (other, against) in span.basis.iter().enumerate() {
                let expected = if one == other { 1.0 } else { 0.0 };
                assert!((dot(direction, against) - expected).abs() < 1e-13);
            }
        }
        for at in 0..90 {
            let mut left = rows.row(at).to_vec();
            for (part, direction) in seen.row(at).iter().zip(span.basis.iter()) {
                add_scaled(&mut left, -part, direction);
            }
            assert!(dot(&left, &left).sqrt() < 1e-9, "row {at}");
        }
    }

    #[test]
    fn the_solution_in_the_span_is_the_solution_over_all_features() {
        let (rows, labels) = (rows(), [0, 1, 2, 0, 1, 2, 0, 1]);
        let stop = Stop { gradient: 1e-11, iterations: 2000 };
        let (span, seen) = Span::of(&rows);
        let problem = |rows| Problem { rows, labels: &labels, classes: 3, lambda: 0.2 };

        let direct = problem(&rows).solve(None, stop);
        let lifted = span.lift(&problem(&seen).solve(None, stop));

        for class in 0..3 {
            for (a, b) in direct.weight(class).iter().zip(lifted.weight(class)) {
                assert!((a - b).abs() < 1e-8, "{a} is not {b}");
            }
        }
    }

    #[test]
    fn rows_of_zeros_span_nothing() {
        let mut rows = Rows::new(4);
        rows.push(&[0.0; 4]);

        let (_, seen) = Span::of(&rows);

        assert_eq!((seen.count(), seen.columns()), (1, 0));
    }
}
