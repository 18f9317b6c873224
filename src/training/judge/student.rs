//! Student's t: the interval of a mean over a few repeats.

use crate::domain::evaluation::Spread;

/// Mean and 95 % t-interval of the values of `n ≥ 1` repeats; one value alone has no width.
pub fn spread(values: Vec<f64>) -> Spread {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count.max(1.0);
    let half = if values.len() < 2 {
        0.0
    } else {
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        quantile(values.len() - 1) * (squares / (count - 1.0) / count).sqrt()
    };
    Spread { values, mean, low: mean - half, high: mean + half }
}

/// The 97.5 % quantile of Student's t with `freedom ≥ 1` degrees of freedom.
fn quantile(freedom: usize) -> f64 {
    quantile_of(0.975, freedom)
}

/// The quantile of Student's t that `share` (0.001 to 0.999) lies below, with `freedom ≥ 1` degrees of
/// freedom, by bisection.
pub fn quantile_of(share: f64, freedom: usize) -> f64 {
    let (mut low, mut high) = (0.0, 320.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if within(middle, freedom) < (2.0 * share - 1.0).abs() {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high).copysign(share - 0.5)
}

/// `A(t|ν) = P(|T| < t)` for whole `ν`, with `θ = atan(t / √ν)` (Abramowitz and Stegun 26.7.3 and
/// 26.7.4): for even `ν` it is `sin θ {1 + ½ cos²θ + (1·3)/(2·4) cos⁴θ + …}`, for odd `ν` it is
/// `2/π {θ + sin θ (cos θ + 2/3 cos³θ + …)}`, each up to the power `ν - 2`.
fn within(t: f64, freedom: usize) -> f64 {
    let theta = (t / (freedom as f64).sqrt()).atan();
    let (sine, cosine) = theta.sin_cos();
    let odd = freedom % 2 == 1;
    let first = usize::from(odd);
    let mut term = if odd { cosine } else { 1.0 };
    let mut sum = 0.0;
    let mut power = first;
    while power + 2 <= freedom {
        sum += term;
        power += 2;
        term *= (power - 1) as f64 / power as f64 * cosine * cosine;
    }
    if odd { std::f64::consts::FRAC_2_PI * (theta + sine * sum) } else { sine * sum }
}

#[cfg(test)]
mod tests {
    use super::{quantile, spread};

    #[test]
    fn the_quantiles_are_those_of_the_tables() {
        // To the digits of the usual tables of Student's t (two-sided 95 %).
        for (freedom, expected) in [
            (1, 12.706),
            (2, 4.303),
            (3, 3.182),
            (4, 2.776),
            (9, 2.262),
            (10, 2.228),
            (30, 2.042),
            (99, 1.984),
        ] {
            assert!(
                (quantile(freedom) - expected).abs() < 6e-4,
                "{freedom}: {}",
                quantile(freedom)
            );
        }
    }

    #[test]
    fn the_interval_of_a_mean_is_t_times_the_standard_error() {
        let found = spread(vec![0.8, 0.9, 0.7]);

        // s = 0.1, so the half width is 4.3027 x 0.1 / √3 = 0.24841.
        assert!((found.mean - 0.8).abs() < 1e-12);
        assert!((found.high - 0.8 - 0.248_41).abs() < 1e-4, "{found:?}");
        assert!((found.mean - found.low - (found.high - found.mean)).abs() < 1e-12);
        let alone = spread(vec![0.5]);
        assert_eq!((alone.low, alone.mean, alone.high), (0.5, 0.5, 0.5));
    }
}
