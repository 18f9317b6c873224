//! 95 % intervals of a metric from resampled patients.
//!
//! The bias-corrected and accelerated percentiles of the draws (Efron 1987; for several classes of
//! patients Davison & Hinkley, §5.3.2), widened for small samples as Hesterberg (2015, section 5.3) does:
//! percentiles alone are too narrow with few patients, and lie to one side of a metric that resampling
//! biases. Where all or none are right every draw is the same, and the exact interval takes their place.

use super::normal::{below, quantile};
use super::student;
use crate::domain::evaluation::Estimate;

/// The share that a two-sided 95 % interval leaves out on each side.
pub const TAIL: f64 = 0.025;
/// Degrees of freedom at least: a class of fewer patients is told in words.
const LEAST_FREEDOM: usize = 4;

/// The way in which a metric was resampled.
#[derive(Debug, Clone)]
pub struct Sampled<'a> {
    /// Its values over the draws.
    pub draws: Vec<f64>,
    /// Its values without each patient, class by class.
    pub without: Vec<Vec<f64>>,
    /// Patients there are.
    pub patients: usize,
    /// Patients of the class that has the fewest.
    pub fewest: usize,
    /// Lowest and highest value that the metric can have.
    pub range: &'a (f64, f64),
    /// Whether it counts right answers: a class that is all right or all wrong then hides what it might
    /// have been, where areas of equal probabilities are what they are.
    pub counts_right_answers: bool,
}

/// The value with its interval; the value alone when nothing was drawn.
pub fn estimate(value: f64, mut sampled: Sampled<'_>) -> Estimate {
    sampled.draws.sort_by(f64::total_cmp);
    let (Some(lowest), Some(highest)) = (sampled.draws.first(), sampled.draws.last()) else {
        return Estimate { value, low: value, high: value };
    };
    if lowest.total_cmp(highest).is_eq() {
        return exact(value, &sampled);
    }
    let [low, high] = [TAIL, 1.0 - TAIL]
        .map(|share| percentile(&sampled.draws, sampled.corrected(value, share)).unwrap_or(value));
    // Rounding of the percentiles aside the value is inside; a bias may be corrected past it.
    Estimate { value, low: low.min(value), high: high.max(value) }
}

/// Clopper and Pearson's interval of `n` of `n`, or of none of `n`, patients: `(α/2)^(1/n)` to 1. Where
/// classes are each all right or all wrong the value lies between, and each way it may be off by what the
/// class with the fewest patients can hide.
fn exact(value: f64, sampled: &Sampled<'_>) -> Estimate {
    let (least, most) = *sampled.range;
    let hidden = |patients: usize| 1.0 - TAIL.powf(1.0 / patients.max(1) as f64);
    let bound = (most - least) * hidden(sampled.patients);
    if value.total_cmp(&most).is_eq() {
        Estimate { value, low: most - bound, high: most }
    } else if value.total_cmp(&least).is_eq() {
        Estimate { value, low: least, high: least + bound }
    } else if sampled.counts_right_answers {
        let share = hidden(sampled.fewest);
        Estimate {
            value,
            low: value - (value - least) * share,
            high: value + (most - value) * share,
        }
    } else {
        Estimate { value, low: value, high: value }
    }
}

impl Sampled<'_> {
    /// The share of the draws that stands for `share` of a normal distribution.
    fn corrected(&self, value: f64, share: f64) -> f64 {
        let count = self.draws.len() as f64;
        let under = self.draws.partition_point(|draw| *draw < value) as f64;
        let up_to = self.draws.partition_point(|draw| *draw <= value) as f64;
        let middle = (f64::midpoint(under, up_to) / count).clamp(0.5 / count, 1.0 - 0.5 / count);
        let bias = quantile(middle);
        let moved = bias + self.widened(share);
        below(bias + moved / (1.0 - self.acceleration() * moved).max(0.1))
    }

    /// The quantile of Student's t, times what the spread of `n` values underestimates, by the class with
    /// the fewest patients: it decides how much a mean over classes is known to vary.
    fn widened(&self, share: f64) -> f64 {
        let freedom = self.fewest.saturating_sub(1).max(LEAST_FREEDOM);
        let factor = ((freedom + 1) as f64 / freedom as f64).sqrt();
        student::quantile_of(share, freedom) * factor
    }

    /// The acceleration: a sixth of the skewness of what each patient moves the metric by.
    fn acceleration(&self) -> f64 {
        let (mut cubes, mut squares) = (0.0, 0.0);
        for class in &self.without {
            let count = class.len() as f64;
            let mean = class.iter().sum::<f64>() / count;
            for value in class {
                let influence = (count - 1.0) * (mean - value);
                cubes += (influence / count).powi(3);
                squares += (influence / count).powi(2);
            }
        }
        if squares > 0.0 { cubes / (6.0 * squares.powf(1.5)) } else { 0.0 }
    }
}

/// The 95 % percentile interval of paired draws, such as of a difference; the value alone when there are
/// none.
pub fn percentiles(value: f64, mut draws: Vec<f64>) -> Estimate {
    draws.sort_by(f64::total_cmp);
    Estimate {
        value,
        low: percentile(&draws, TAIL).unwrap_or(value),
        high: percentile(&draws, 1.0 - TAIL).unwrap_or(value),
    }
}

/// The value that draws exceed with the chance `tail`; none when there are no draws.
pub fn upper(mut draws: Vec<f64>, tail: f64) -> Option<f64> {
    draws.sort_by(f64::total_cmp);
    percentile(&draws, 1.0 - tail)
}

/// The quantile of ascending values, linear between neighbours (Hyndman & Fan's type 7).
fn percentile(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let at = share * last as f64;
    let below = at.floor() as usize;
    let above = (below + 1).min(last);
    Some(sorted[below] + (at - below as f64) * (sorted[above] - sorted[below]))
}

#[cfg(test)]
mod tests {
    use super::{Sampled, estimate, percentiles};

    #[test]
    fn percentiles_are_linear_between_the_draws_in_whatever_order_they_come() {
        let draws: Vec<f64> = (0..=100).rev().map(f64::from).collect();

        let found = percentiles(50.0, draws);

        assert!((found.low - 2.5).abs() < 1e-12 && (found.high - 97.5).abs() < 1e-12);
    }

    #[test]
    fn all_or_none_right_gets_the_exact_interval_in_patients() {
        let sampled = |value: f64, patients, range| Sampled {
            draws: vec![value; 10],
            without: Vec::new(),
            patients,
            fewest: 2,
            range,
            counts_right_answers: true,
        };
        let low = |patients| estimate(1.0, sampled(1.0, patients, &(0.0, 1.0))).low;

        assert!((low(30) - 0.884).abs() < 5e-4 && (low(51) - 0.930).abs() < 5e-4);
        let none = estimate(0.0, sampled(0.0, 30, &(0.0, 1.0)));
        assert!((none.high - 0.116).abs() < 5e-4 && none.low.total_cmp(&0.0).is_eq());
        // One class all right, the other all wrong: no draw differs, and yet little is known. With two
        // patients of a class 1 - sqrt(0.025) of either side may be hidden.
        let between = estimate(0.4, sampled(0.4, 30, &(0.0, 1.0)));
        assert!((between.low - 0.4 * 0.025_f64.sqrt()).abs() < 1e-12, "{between:?}");
        assert!((between.high - (1.0 - 0.6 * 0.025_f64.sqrt())).abs() < 1e-12, "{between:?}");
    }

    #[test]
    fn draws_that_lie_evenly_about_the_value_give_the_widened_percentiles() {
        let draws: Vec<f64> = (0..=2000).map(|at| f64::from(at) / 2000.0).collect();
        let without = vec![vec![0.4, 0.5, 0.6]];
        let (range, counts_right_answers) = (&(0.0, 1.0), true);
        let sampled =
            Sampled { draws, without, patients: 1001, fewest: 1001, range, counts_right_answers };

        let found = estimate(0.5, sampled);

        assert!((found.low - 0.025).abs() < 2e-3 && (found.high - 0.975).abs() < 2e-3, "{found:?}");
    }
}
