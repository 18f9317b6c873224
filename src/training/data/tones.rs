//! Changes of brightness: gamma, contrast, added brightness, Gaussian blur, noise, a covered square.
//!
//! All work on brightness in `[0, 1]` and keep it there.

use rand::rngs::StdRng;
use rand_distr::{Distribution, StandardNormal};

/// A square within a picture, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Square {
    /// Columns to the left of it.
    pub left: usize,
    /// Rows above it.
    pub top: usize,
    /// Its side.
    pub side: usize,
}

/// `x^γ`: below 1 brightens the middle tones, above 1 darkens them.
pub fn gamma(planes: &mut [Vec<f32>], exponent: f32) {
    planes.iter_mut().flatten().for_each(|value| *value = value.powf(exponent));
}

/// Moves every value away from the mean of the picture, or towards it: `m + f (x − m)`.
pub fn contrast(planes: &mut [Vec<f32>], factor: f32) {
    let values = planes.iter().map(Vec::len).sum::<usize>().max(1);
    let sum: f64 = planes.iter().flatten().map(|value| f64::from(*value)).sum();
    let mean = (sum / values as f64) as f32;
    let values = planes.iter_mut().flatten();
    values.for_each(|value| *value = (mean + factor * (*value - mean)).clamp(0.0, 1.0));
}

/// `x + b`.
pub(super) fn brightness(planes: &mut [Vec<f32>], added: f32) {
    planes.iter_mut().flatten().for_each(|value| *value = (*value + added).clamp(0.0, 1.0));
}

/// Adds independent normal noise of standard deviation `std`.
pub(super) fn noise(planes: &mut [Vec<f32>], std: f32, random: &mut StdRng) {
    for value in planes.iter_mut().flatten() {
        let drawn: f32 = StandardNormal.sample(random);
        *value = (*value + std * drawn).clamp(0.0, 1.0);
    }
}

/// Paints a square over with the mean of each plane.
pub(super) fn cutout(planes: &mut [Vec<f32>], size: usize, square: Square) {
    for plane in planes {
        let sum: f64 = plane.iter().map(|value| f64::from(*value)).sum();
        let mean = (sum / plane.len().max(1) as f64) as f32;
        for row in plane.chunks_mut(size).skip(square.top).take(square.side) {
            row[square.left..square.left + square.side].fill(mean);
        }
    }
}

/// Gaussian blur of a plane of `size * size` with standard deviation `sigma` in pixels: the kernel is
/// `exp(−d² / 2σ²)` up to `3σ`, normalised; beyond the border the outermost pixel goes on.
pub fn blur(plane: &[f32], size: usize, sigma: f64) -> Vec<f32> {
    let reach = (3.0 * sigma).ceil() as i64;
    let weight = |distance: i64| (-0.5 * (distance as f64 / sigma).powi(2)).exp();
    let total: f64 = (-reach..=reach).map(weight).sum();
    let kernel: Vec<f32> =
        (-reach..=reach).map(|distance| (weight(distance) / total) as f32).collect();
    let neighbour =
        |at: usize, tap: usize| (at as i64 + tap as i64 - reach).clamp(0, size as i64 - 1) as usize;
    let mut across = vec![0.0; plane.len()];
    for (row, blurred) in plane.chunks(size).zip(across.chunks_mut(size)) {
        for (at, value) in blurred.iter_mut().enumerate() {
            let taps = kernel.iter().enumerate();
            *value = taps.map(|(tap, weight)| weight * row[neighbour(at, tap)]).sum();
        }
    }
    let mut down = vec![0.0; plane.len()];
    for (at, blurred) in down.chunks_mut(size).enumerate() {
        for (tap, weight) in kernel.iter().enumerate() {
            let row = neighbour(at, tap) * size;
            let source = &across[row..row + size];
            blurred.iter_mut().zip(source).for_each(|(sum, value)| *sum += weight * value);
        }
    }
    down
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::{blur, brightness, contrast, cutout, gamma, noise};
    use crate::training::data::Square;

    fn picture(size: usize) -> Vec<Vec<f32>> {
        let plane = |of: usize| {
            (0..size * size).map(|at| ((at + of) * 7919 % 101) as f32 / 100.0).collect()
        };
        (0..3).map(plane).collect()
    }

    #[test]
    fn tones_follow_their_formulas_and_stay_in_range() {
        let before = picture(8);
        let mean = before.iter().flatten().sum::<f32>() / 192.0;
        let check = |changed: &[Vec<f32>], formula: &dyn Fn(f32) -> f32| {
            for (value, before) in changed.iter().flatten().zip(before.iter().flatten()) {
                let expected = formula(*before).clamp(0.0, 1.0);
                assert!((value - expected).abs() < 1e-5, "{before}: {value}, not {expected}");
            }
        };
        let mut changed = before.clone();
        gamma(&mut changed, 1.4);
        check(&changed, &|x| (1.4 * x.ln()).exp());
        changed = before.clone();
        contrast(&mut changed, 1.5);
        check(&changed, &|x| mean + 1.5 * (x - mean));
        changed = before.clone();
        brightness(&mut changed, -0.3);
        check(&changed, &|x| x - 0.3);
    }

    #[test]
    fn blur_is_the_two_dimensional_convolution() {
        let (size, sigma) = (11_i64, 1.3_f64);
        let plane = &picture(size as usize)[0];

        let blurred = blur(plane, size as usize, sigma);

        let reach = (3.0 * sigma).ceil() as i64;
        for y in 0..size {
            for x in 0..size {
                let (mut sum, mut total) = (0.0, 0.0);
                for dy in -reach..=reach {
                    for dx in -reach..=reach {
                        let weight = (-((dx * dx + dy * dy) as f64) / (2.0 * sigma * sigma)).exp();
                        let (x, y) = ((x + dx).clamp(0, size - 1), (y + dy).clamp(0, size - 1));
                        sum += weight * f64::from(plane[(y * size + x) as usize]);
                        total += weight;
                    }
                }
                let found = f64::from(blurred[(y * size + x) as usize]);
                assert!((found - sum / total).abs() < 1e-6, "({x}, {y})");
            }
        }
    }

    #[test]
    fn noise_has_its_standard_deviation_and_no_bias() {
        let mut planes = vec![vec![0.5_f32; 100 * 100]];

        noise(&mut planes, 0.05, &mut StdRng::seed_from_u64(3));

        let n = 10_000.0_f64;
        let off = || planes[0].iter().map(|value| f64::from(*value) - 0.5);
        let (mean, variance) = (off().sum::<f64>() / n, off().map(|x| x * x).sum::<f64>() / n);
        assert!(mean.abs() < 5.0 * 0.05 / n.sqrt(), "{mean}");
        assert!((variance.sqrt() / 0.05 - 1.0).abs() < 5.0 / (2.0 * n).sqrt(), "{variance}");
    }

    #[test]
    fn a_square_is_covered_with_the_mean_and_nothing_else_is_touched() {
        let before = picture(8);
        let mut after = before.clone();

        cutout(&mut after, 8, Square { left: 5, top: 2, side: 3 });

        for (before, after) in before.iter().zip(&after) {
            let mean = before.iter().sum::<f32>() / 64.0;
            for at in 0..64 {
                let is_covered = (2..5).contains(&(at / 8)) && (5..8).contains(&(at % 8));
                let expected = if is_covered { mean } else { before[at] };
                assert!((after[at] - expected).abs() < 1e-6, "{at}");
            }
        }
    }
}
