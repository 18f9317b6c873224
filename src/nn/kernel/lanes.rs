//! Sums in sixteen lanes: quick, since the lanes are independent, and always in the same order.

use candle_core::WithDType;

const LANES: usize = 16;

/// `Σ f(x)`, in the precision of the values.
pub(in crate::nn) fn sum<T: WithDType>(x: &[T], f: impl Fn(T) -> T) -> T {
    let mut lanes = [T::zero(); LANES];
    let chunks = x.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += f(*value);
        }
    }
    for (lane, value) in lanes.iter_mut().zip(rest) {
        *lane += f(*value);
    }
    fold(lanes)
}

/// `(Σ f(x, y), Σ g(x, y))` of two equally long slices, in the precision of the values.
pub(in crate::nn) fn sum_two<T: WithDType>(x: &[T], y: &[T], f: impl Fn(T, T) -> (T, T)) -> (T, T) {
    let (mut one, mut two) = ([T::zero(); LANES], [T::zero(); LANES]);
    let (xs, ys) = (x.chunks_exact(LANES), y.chunks_exact(LANES));
    let rest = xs.remainder().iter().zip(ys.remainder());
    for (x, y) in xs.zip(ys) {
        for lane in 0..LANES {
            let (first, second) = f(x[lane], y[lane]);
            one[lane] += first;
            two[lane] += second;
        }
    }
    for (lane, (x, y)) in rest.enumerate() {
        let (first, second) = f(*x, *y);
        one[lane] += first;
        two[lane] += second;
    }
    (fold(one), fold(two))
}

fn fold<T: WithDType>(lanes: [T; LANES]) -> T {
    let mut total = T::zero();
    for lane in lanes {
        total += lane;
    }
    total
}

/// Mean and sum of squared distances from it.
pub(in crate::nn) fn moments<T: WithDType>(x: &[T]) -> (f64, f64) {
    let mean = sum(x, |value| value).to_f64() / x.len().max(1) as f64;
    let center = T::from_f64(mean);
    let squares = sum(x, |value| (value - center) * (value - center));
    // What the rounding of the centre adds to the squares comes off again.
    let off = mean - center.to_f64();
    (mean, (squares.to_f64() - off * off * x.len() as f64).max(0.0))
}

/// Means and sums of squares of equally large parts as those of the whole (Chan et al. 1979).
pub(in crate::nn) fn merge(parts: impl Iterator<Item = (f64, f64)>, count: usize) -> (f64, f64) {
    let (mut mean, mut squares, mut seen) = (0.0, 0.0, 0.0);
    for (part_mean, part_squares) in parts {
        let count = count as f64;
        let total = seen + count;
        let apart = part_mean - mean;
        mean += apart * count / total;
        squares += part_squares + apart * apart * seen * count / total;
        seen = total;
    }
    (mean, squares)
}

#[cfg(test)]
mod tests {
    use super::{merge, moments, sum, sum_two};

    #[test]
    fn sums_reach_every_value() {
        let x: Vec<f64> = (1..=100).map(f64::from).collect();

        assert_eq!(sum(&x, |value| value), 5050.0);
        assert_eq!(sum_two(&x, &x, |x, y| (x, x * y)), (5050.0, 338_350.0));
    }

    #[test]
    fn merged_moments_are_those_of_the_whole() {
        let x: Vec<f32> = (0..96_u16).map(|at| 1000.0 + f32::from(at * 37 % 101)).collect();

        let (mean, squares) = merge(x.chunks(32).map(moments), 32);

        let exact = x.iter().map(|value| f64::from(*value)).sum::<f64>() / 96.0;
        let spread: f64 = x.iter().map(|value| (f64::from(*value) - exact).powi(2)).sum();
        assert!((mean - exact).abs() < 1e-4, "{mean} {exact}");
        assert!((squares - spread).abs() < 1e-4 * spread, "{squares} {spread}");
    }
}
