//! The normal distribution.

/// `Φ(x)`, the share of a standard normal variable that lies below `x`.
pub fn below(x: f64) -> f64 {
    0.5 * libm::erfc(-x / std::f64::consts::SQRT_2)
}

/// `Φ⁻¹(share)`, by bisection to 1e-12; within ±9.
pub fn quantile(share: f64) -> f64 {
    let (mut low, mut high) = (-9.0, 9.0);
    while high - low > 1e-12 {
        let middle = f64::midpoint(low, high);
        if below(middle) < share { low = middle } else { high = middle }
    }
    f64::midpoint(low, high)
}

#[cfg(test)]
mod tests {
    use super::{below, quantile};

    #[test]
    fn quantiles_are_those_of_the_tables_and_undo_the_shares() {
        assert!((quantile(0.975) - 1.959_963_984_540_054).abs() < 1e-10);
        assert!((quantile(0.5)).abs() < 1e-10);
        for x in [-3.0, -0.4, 1.7] {
            assert!((quantile(below(x)) - x).abs() < 1e-9);
        }
    }
}
