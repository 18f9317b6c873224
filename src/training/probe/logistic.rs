//! Multinomial logistic regression with a quadratic penalty on the weights.
//!
//! `L(W, b) = 1/n Σᵢ −log softmax(W xᵢ + b)[yᵢ] + λ/2 ‖W‖²`, the bias free. scikit-learn's
//! `LogisticRegression(C)` minimises the same for `C = 1/(nλ)` and three classes or more. The loss
//! is strictly convex in what it predicts, so the solution does not depend on where one starts.

use super::lbfgs::{Stop, minimise};
use super::matrix::{Rows, add_scaled, dot};

/// Labelled rows and a penalty.
#[derive(Debug, Clone, Copy)]
pub struct Problem<'a> {
    /// Features, one image a row.
    pub rows: &'a Rows,
    /// Class of each row, below `classes`. Every class occurs, or its bias has no minimum.
    pub labels: &'a [usize],
    /// The number of classes: `K`.
    pub classes: usize,
    /// Penalty on the weights: `λ`.
    pub lambda: f64,
}

/// The weights and biases of `K` classes over `D` features.
#[derive(Debug, Clone, PartialEq)]
pub struct Solution {
    /// `W` `[K, D]` row by row, then `b` `[K]`.
    parameters: Vec<f64>,
    classes: usize,
    columns: usize,
}

impl Problem<'_> {
    /// Solves the problem from `start`, or from zero.
    ///
    /// # Panics
    /// When `start` is of another shape.
    pub fn solve(&self, start: Option<&Solution>, stop: Stop) -> Solution {
        let zero = || Solution::zero(self.classes, self.rows.columns());
        let start = start.cloned().unwrap_or_else(zero);
        assert_eq!(start.parameters.len(), self.size(), "the start is of the problem's shape");
        let found = minimise(start.parameters, stop, |at, gradient| self.loss(at, gradient));
        Solution { parameters: found.point, classes: self.classes, columns: self.rows.columns() }
    }

    /// Numbers in `W` and `b` together.
    pub fn size(&self) -> usize {
        self.classes * (self.rows.columns() + 1)
    }

    /// `L` at `parameters` (`W` row by row, then `b`), its gradient written to `gradient`.
    pub fn loss(&self, parameters: &[f64], gradient: &mut [f64]) -> f64 {
        let columns = self.rows.columns();
        let (weight, bias) = parameters.split_at(self.classes * columns);
        let (weight_gradient, bias_gradient) = gradient.split_at_mut(self.classes * columns);
        let scale = 1.0 / self.rows.count() as f64;
        let mut loss = 0.0;
        for (gradient, value) in weight_gradient.iter_mut().zip(weight) {
            *gradient = self.lambda * value;
        }
        bias_gradient.fill(0.0);
        let mut logits = vec![0.0; self.classes];
        for (row, label) in self.rows.iter().zip(self.labels) {
            for (class, logit) in logits.iter_mut().enumerate() {
                *logit = bias[class] + dot(&weight[class * columns..(class + 1) * columns], row);
            }
            let own = logits[*label];
            let normaliser = softmax(&mut logits);
            loss += normaliser - own;
            logits[*label] -= 1.0;
            for (class, residual) in logits.iter().enumerate() {
                let gradient = &mut weight_gradient[class * columns..(class + 1) * columns];
                add_scaled(gradient, scale * residual, row);
                bias_gradient[class] += scale * residual;
            }
        }
        scale * loss + self.lambda / 2.0 * dot(weight, weight)
    }
}

impl Solution {
    /// All zero.
    pub fn zero(classes: usize, columns: usize) -> Self {
        Self { parameters: vec![0.0; classes * (columns + 1)], classes, columns }
    }

    /// A solution from its weights, one class a row, and its biases.
    ///
    /// # Panics
    /// When there is not one bias a row.
    pub fn from_parts(weight: &Rows, bias: &[f64]) -> Self {
        assert_eq!(weight.count(), bias.len(), "one bias a class");
        let mut parameters: Vec<f64> = weight.iter().flatten().copied().collect();
        parameters.extend_from_slice(bias);
        Self { parameters, classes: bias.len(), columns: weight.columns() }
    }

    /// Weights of one class, `[D]`.
    pub fn weight(&self, class: usize) -> &[f64] {
        &self.parameters[class * self.columns..(class + 1) * self.columns]
    }

    /// Biases, `[K]`.
    pub fn bias(&self) -> &[f64] {
        &self.parameters[self.classes * self.columns..]
    }

    /// `W x + b`.
    pub fn logits(&self, row: &[f64]) -> Vec<f64> {
        let classes = self.bias().iter().enumerate();
        classes.map(|(class, bias)| bias + dot(self.weight(class), row)).collect()
    }

    /// The solution whose logits are `factor` times these.
    #[must_use]
    pub fn scaled(mut self, factor: f64) -> Self {
        self.parameters.iter_mut().for_each(|parameter| *parameter *= factor);
        self
    }

    /// The solution whose logits are the sum of those of `parts`, all of one shape; none of nothing.
    pub fn sum(parts: &[Self]) -> Option<Self> {
        let (first, rest) = parts.split_first()?;
        let mut sum = first.clone();
        rest.iter().for_each(|part| add_scaled(&mut sum.parameters, 1.0, &part.parameters));
        Some(sum)
    }

    /// `−log softmax(W x + b)[label]`, finite however sure and wrong the solution is.
    pub fn log_loss(&self, row: &[f64], label: usize) -> f64 {
        let mut logits = self.logits(row);
        let own = logits[label];
        softmax(&mut logits) - own
    }
}

/// Turns logits into probabilities in place and returns `log Σ exp(z)`.
pub(in crate::training) fn softmax(logits: &mut [f64]) -> f64 {
    let highest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut total = 0.0;
    for logit in logits.iter_mut() {
        *logit = (*logit - highest).exp();
        total += *logit;
    }
    logits.iter_mut().for_each(|value| *value /= total);
    highest + total.ln()
}

#[cfg(test)]
mod tests {
    use super::{Problem, Rows, Solution, Stop};

    const STOP: Stop = Stop { gradient: 1e-10, iterations: 1000 };

    fn rows() -> Rows {
        let mut rows = Rows::new(3);
        for at in 0..12 {
            let t = f64::from(at);
            rows.push(&[t.sin(), (1.7 * t).cos(), (0.3 * t * t).sin()]);
        }
        rows
    }

    #[test]
    fn the_gradient_is_the_slope_of_the_loss() {
        let (rows, labels) = (rows(), [0, 1, 2, 0, 1, 2, 0, 0, 1, 2, 2, 1]);
        let problem = Problem { rows: &rows, labels: &labels, classes: 3, lambda: 0.3 };
        let at: Vec<f64> = (0_u8..12).map(|at| f64::from(at).cos()).collect();
        let mut gradient = vec![0.0; 12];
        problem.loss(&at, &mut gradient);

        for (entry, expected) in gradient.iter().enumerate() {
            let value = |shift: f64| {
                let mut moved = at.clone();
                moved[entry] += shift;
                problem.loss(&moved, &mut [0.0; 12])
            };
            let slope = (value(1e-5) - value(-1e-5)) / 2e-5;
            assert!((slope - expected).abs() < 1e-9, "entry {entry}: {slope} is not {expected}");
        }
    }

    #[test]
    fn the_solution_does_not_depend_on_the_start() {
        let (rows, labels) = (rows(), [0, 1, 2, 0, 1, 2, 0, 0, 1, 2, 2, 1]);
        let problem = Problem { rows: &rows, labels: &labels, classes: 3, lambda: 0.05 };
        let far = Solution { parameters: vec![3.0; problem.size()], classes: 3, columns: 3 };

        let one = problem.solve(None, STOP);
        let other = problem.solve(Some(&far), STOP);

        for (a, b) in one.logits(rows.row(4)).iter().zip(other.logits(rows.row(4))) {
            // Biases may differ by a constant that no probability sees.
            let shift = other.bias()[0] - one.bias()[0];
            assert!((a + shift - b).abs() < 1e-7, "{a} {b}");
        }
    }

    #[test]
    fn a_sure_and_wrong_solution_has_a_large_but_finite_loss() {
        let mut weight = Rows::new(1);
        weight.push(&[1e6]);
        weight.push(&[-1e6]);

        let loss = Solution::from_parts(&weight, &[0.0, 0.0]).log_loss(&[1.0], 1);

        assert!((loss - 2e6).abs() < 1e-3);
    }
}
