//! Intervals by resampling patients: images of one patient are alike, so patients are the units.
//!
//! The percentile bootstrap over clusters (Davison & Hinkley, Bootstrap Methods and their
//! Application, §3.8 and §5.3): as many patients as there are, drawn with replacement, each with
//! all their images; the interval spans the 2.5th to the 97.5th percentile of the metric.

use std::collections::BTreeSet;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rayon::prelude::*;

use super::metrics::{Scorer, Scores};
use crate::domain::evaluation::Estimate;

/// Scores of `resamples` draws of patients; `patients` names the patient of each image.
///
/// Draws run side by side on the current rayon pool. Each has a generator of its own, seeded from
/// `seed` and its number, so that the scores do not depend on the number of threads, nor on the
/// order of the images.
pub fn resample(scorer: &Scorer, patients: &[&str], resamples: u32, seed: u64) -> Vec<Scores> {
    let keys: BTreeSet<&str> = patients.iter().copied().collect();
    let keys: Vec<&str> = keys.into_iter().collect();
    let of_image: Vec<usize> =
        patients.iter().filter_map(|patient| keys.binary_search(patient).ok()).collect();
    let mut seeds = StdRng::seed_from_u64(seed);
    let seeds: Vec<u64> = (0..resamples).map(|_| seeds.random()).collect();
    seeds
        .into_par_iter()
        .map(|seed| {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut drawn = vec![0_u32; keys.len()];
            for _ in 0..keys.len() {
                drawn[rng.random_range(0..keys.len())] += 1;
            }
            let weights: Vec<u32> = of_image.iter().map(|patient| drawn[*patient]).collect();
            scorer.score(&weights)
        })
        .collect()
}

/// The value with the 95 % percentile interval of the draws; the value alone when there are none.
///
/// The interval is that of the draws and nothing else: for a metric that resampling biases, such as
/// the calibration error, which repeated images make larger, it may lie to one side of the value.
pub fn estimate(value: f64, mut draws: Vec<f64>) -> Estimate {
    draws.sort_by(f64::total_cmp);
    Estimate {
        value,
        low: percentile(&draws, 0.025).unwrap_or(value),
        high: percentile(&draws, 0.975).unwrap_or(value),
    }
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
    use super::estimate;

    #[test]
    fn percentiles_are_linear_between_the_draws_in_whatever_order_they_come() {
        let draws: Vec<f64> = (0..=100).rev().map(f64::from).collect();

        let found = estimate(50.0, draws);

        assert!((found.low - 2.5).abs() < 1e-12 && (found.high - 97.5).abs() < 1e-12);
    }

    #[test]
    fn one_draw_and_no_draw_have_no_width() {
        let one = estimate(0.5, vec![0.25]);
        let none = estimate(0.5, Vec::new());

        assert_eq!(
            (one.low.to_bits(), one.high.to_bits()),
            (0.25_f64.to_bits(), 0.25_f64.to_bits())
        );
        assert_eq!(
            (none.low.to_bits(), none.high.to_bits()),
            (0.5_f64.to_bits(), 0.5_f64.to_bits())
        );
    }
}
