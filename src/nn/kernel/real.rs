//! The two types of numbers that are trained with, their exponentials, and vector instructions.

use candle_core::WithDType;
use candle_core::cpu::erf::erfc_f64;

/// Compiles elementwise loops for the widest vectors there are and runs the version that fits this
/// processor. Only what is inlined into `work` is compiled so: give it as `#[inline(always)] || …`,
/// with plain loops inside and threads outside.
#[inline]
pub(in crate::nn) fn vectorised<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}

/// A floating-point number: 32 bits, exponentials to a few units in the last place and quick in
/// loops; or 64 bits, exponentials as exact as the standard library's.
pub(in crate::nn) trait Real: WithDType {
    /// `e^self`.
    fn exponential(self) -> Self;

    /// The standard normal distribution: `Φ(self)` and its derivative `φ(self)`.
    fn normal(self) -> (Self, Self);
}

/// `1 / √(2π)`.
const DENSITY: f64 = 0.398_942_280_401_432_7;

impl Real for f64 {
    #[inline]
    fn exponential(self) -> Self {
        self.exp()
    }

    #[inline]
    fn normal(self) -> (Self, Self) {
        let distribution = 0.5 * erfc_f64(-self * std::f64::consts::FRAC_1_SQRT_2);
        (distribution, DENSITY * (-0.5 * self * self).exp())
    }
}

/// `erfc(z) e^(z²) ≈ Σ a_i t^i` with `t = 1 / (1 + 0.42 z)` for `z >= 0`: the form of Abramowitz
/// and Stegun 7.1.26 with three more terms, fitted so that rounding alone is what `erfc` is off by.
const ERFC: [f32; 8] = [
    0.236_772_74,
    0.240_359_68,
    0.189_976_74,
    0.284_201_7,
    -0.159_421_56,
    0.471_783_22,
    -0.338_180_35,
    0.074_507_86,
];
const ERFC_SLOPE: f32 = 0.42;

impl Real for f32 {
    /// `2^n e^r` with `n` the whole number nearest to `self / ln 2`, and seven terms of the series
    /// of `e^r`; relative error below 2e-7.
    #[inline]
    fn exponential(self) -> Self {
        // Adding it rounds to a whole number, which then stands in the lowest bits.
        const ROUND: f32 = 12_582_912.0;
        const LN_2_HIGH: f32 = 0.693_359_4;
        const LN_2_LOW: f32 = -2.121_944_4e-4;
        let x = self.clamp(-87.0, 88.0);
        let shifted = x * std::f32::consts::LOG2_E + ROUND;
        let n = shifted - ROUND;
        let r = (x - n * LN_2_HIGH) - n * LN_2_LOW;
        let mut series = 1.0 / 5040.0;
        for term in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
            series = series * r + term;
        }
        let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127);
        series * f32::from_bits(exponent << 23)
    }

    #[inline]
    fn normal(self) -> (Self, Self) {
        let decay = (-0.5 * self * self).exponential();
        let t = 1.0 / (1.0 + ERFC_SLOPE * std::f32::consts::FRAC_1_SQRT_2 * self.abs());
        let mut series = 0.0;
        for term in ERFC.iter().rev() {
            series = (series + term) * t;
        }
        let tail = 0.5 * series * decay;
        (if self < 0.0 { tail } else { 1.0 - tail }, DENSITY as f32 * decay)
    }
}

#[cfg(test)]
mod tests {
    use super::Real;

    #[test]
    fn exponentials_of_both_types_agree() {
        for step in -8700_i16..=8800 {
            let x = f32::from(step) / 100.0;
            let (quick, exact) = (f64::from(x.exponential()), f64::from(x).exponential());
            assert!((quick - exact).abs() < 2e-7 * exact, "e^{x}: {quick} {exact}");
        }
        assert!(f32::NAN.exponential().is_nan());
        assert!(f32::NEG_INFINITY.exponential() < 1e-37);
    }

    #[test]
    fn normal_distributions_of_both_types_agree() {
        for step in -1000_i16..=1000 {
            let x = f32::from(step) / 100.0;
            let ((quick, density), (exact, other)) = (x.normal(), f64::from(x).normal());
            assert!((f64::from(quick) - exact).abs() < 2e-7, "{x}: {quick} {exact}");
            assert!((f64::from(density) - other).abs() < 1e-7, "{x}: {density} {other}");
        }
    }
}
