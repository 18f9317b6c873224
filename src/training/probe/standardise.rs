//! Features on one scale, and what undoes it: a classifier of standardised features as one of raw.

use super::logistic::Solution;
use super::matrix::Rows;

/// Spread of a feature, relative to its largest value, below which it is constant: what is smaller
/// is the rounding of single precision.
const CONSTANT: f64 = 1e-7;
/// Of the median spread, what a feature is taken to vary by at least: one that hardly varies in a few
/// images may vary in others, and would be blown up.
const FLOOR: f64 = 0.3;

/// The scale of each feature over a set of images.
#[derive(Debug, Clone, PartialEq)]
pub struct Scale {
    /// Means, `[D]`, in the unit of the features.
    means: Vec<f64>,
    /// One over the standard deviation (of the set, not an estimate for a larger one), `[D]`; zero
    /// for a feature that does not vary, which makes it zero everywhere.
    factors: Vec<f64>,
}

impl Scale {
    /// The scale of `features`, each image `[D]`.
    pub fn of<'a>(features: impl Iterator<Item = &'a [f32]> + Clone, dimensions: usize) -> Self {
        let count = features.clone().count().max(1) as f64;
        let mut means = vec![0.0; dimensions];
        let mut largest = vec![0.0_f64; dimensions];
        for row in features.clone() {
            for (at, value) in row.iter().enumerate() {
                means[at] += f64::from(*value);
                largest[at] = largest[at].max(f64::from(value.abs()));
            }
        }
        means.iter_mut().for_each(|mean| *mean /= count);
        let mut squares = vec![0.0; dimensions];
        for row in features {
            for (at, value) in row.iter().enumerate() {
                squares[at] += (f64::from(*value) - means[at]).powi(2);
            }
        }
        let factor = |(square, largest): (&f64, &f64)| {
            let deviation = (square / count).sqrt();
            if deviation > CONSTANT * largest { 1.0 / deviation } else { 0.0 }
        };
        let factors = squares.iter().zip(&largest).map(factor).collect();
        Self { means, factors }
    }

    /// The same with a floor under the spread of each feature that varies: 0.3 of their median.
    #[must_use]
    pub fn floored(self) -> Self {
        let mut spreads: Vec<f64> = self
            .factors
            .iter()
            .filter(|factor| **factor > 0.0)
            .map(|factor| 1.0 / factor)
            .collect();
        spreads.sort_by(f64::total_cmp);
        let median = spreads.get(spreads.len() / 2).copied().unwrap_or(1.0);
        let bounded = |factor: f64| factor.min(1.0 / (FLOOR * median));
        Self { factors: self.factors.into_iter().map(bounded).collect(), ..self }
    }

    /// The same that moves features to a mean of zero and leaves their spread.
    #[must_use]
    pub fn centred(self) -> Self {
        let kept = |factor: f64| if factor > 0.0 { 1.0 } else { 0.0 };
        Self { factors: self.factors.into_iter().map(kept).collect(), ..self }
    }

    /// Features that vary.
    pub fn varying(&self) -> usize {
        self.factors.iter().filter(|factor| **factor > 0.0).count()
    }

    /// `(f − mean) / deviation` of every image.
    pub fn apply<'a>(&self, features: impl Iterator<Item = &'a [f32]>) -> Rows {
        let mut rows = Rows::new(self.means.len());
        let mut scaled = vec![0.0; self.means.len()];
        for row in features {
            for (at, value) in row.iter().enumerate() {
                scaled[at] = (f64::from(*value) - self.means[at]) * self.factors[at];
            }
            rows.push(&scaled);
        }
        rows
    }

    /// The classifier of raw features that predicts what `solution` does of standardised ones:
    /// `W'ₖₐ = Wₖₐ / σₐ`, `b'ₖ = bₖ − Σₐ W'ₖₐ μₐ`.
    pub fn fold_into(&self, solution: &Solution) -> Solution {
        let mut weight = Rows::new(self.means.len());
        let mut biases = Vec::with_capacity(solution.bias().len());
        for (class, bias) in solution.bias().iter().enumerate() {
            let scaled = solution.weight(class).iter().zip(&self.factors);
            let raw: Vec<f64> = scaled.map(|(weight, factor)| weight * factor).collect();
            let shift: f64 = raw.iter().zip(&self.means).map(|(weight, mean)| weight * mean).sum();
            biases.push(bias - shift);
            weight.push(&raw);
        }
        Solution::from_parts(&weight, &biases)
    }
}

#[cfg(test)]
mod tests {
    use super::{Rows, Scale, Solution};

    const FEATURES: [[f32; 3]; 4] =
        [[1.0, 0.1, -5.0], [2.0, 0.1, 7.5], [4.0, 0.1, 0.25], [8.0, 0.1, 100.0]];

    #[test]
    fn standardised_features_have_mean_zero_and_spread_one_and_constants_vanish() {
        let features = FEATURES.iter().map(<[f32; 3]>::as_slice);
        let scale = Scale::of(features.clone(), 3);

        let rows = scale.apply(features);

        assert_eq!(scale.varying(), 2);
        for at in [0, 2] {
            let sum: f64 = rows.iter().map(|row| row[at]).sum();
            let squares: f64 = rows.iter().map(|row| row[at] * row[at]).sum();
            assert!(sum.abs() < 1e-12 && (squares - 4.0).abs() < 1e-12);
        }
        assert!(rows.iter().all(|row| row[1] == 0.0));
    }

    #[test]
    fn a_feature_that_hardly_varies_is_blown_up_only_as_far_as_the_others() {
        let features = [[0.0_f32, 0.0, 0.0, 7.0], [2.0, 4.0, 1e-3, 7.0]];
        let features = features.iter().map(<[f32; 4]>::as_slice);
        let scale = Scale::of(features.clone(), 4);

        let floored = scale.clone().floored().apply(features.clone());
        let centred = scale.centred().apply(features);

        // The spreads are 1, 2 and 0.0005; their median is 1.
        let expected = [1.0, 1.0, 5e-4 / 0.3, 0.0];
        assert!(floored.row(1).iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-7));
        let expected = [1.0, 2.0, 5e-4, 0.0];
        assert!(centred.row(1).iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-7));
    }

    #[test]
    fn folding_the_scale_in_predicts_the_same_from_raw_features() {
        let features = FEATURES.iter().map(<[f32; 3]>::as_slice);
        let scale = Scale::of(features.clone(), 3);
        let mut weight = Rows::new(3);
        weight.push(&[0.5, 3.0, -1.0]);
        weight.push(&[-2.0, 1.0, 0.25]);
        let solution = Solution::from_parts(&weight, &[0.1, -0.7]);

        let folded = scale.fold_into(&solution);

        for (raw, row) in FEATURES.iter().zip(scale.apply(features).iter()) {
            let raw: Vec<f64> = raw.iter().map(|value| f64::from(*value)).collect();
            for (a, b) in folded.logits(&raw).iter().zip(solution.logits(row)) {
                assert!((a - b).abs() < 1e-12, "{a} is not {b}");
            }
        }
    }
}
