//! The terms of VICReg: what belongs together agrees, every channel varies, no two vary alike.
//!
//! Bardes et al., "VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised
//! Learning", 2022. The invariance is a mean over channels too, and covariances of both sides are
//! averaged, as in the authors' code of VICRegL, whose weights are the defaults.

use candle_core::{Result, Tensor};

use super::correlation::off_diagonal;
use super::scored::sum;
use crate::nn::ops::relu;

/// Added to the variance, `ε` of Eq. 2.
const EPSILON: f64 = 1e-4;

/// Invariance, variance and covariance, each a number that gradients flow back from.
#[derive(Debug)]
pub(super) struct Terms(pub(super) [Tensor; 3]);

impl Terms {
    /// The terms of pairs `x` and `y`, both `[B, n, C]`: statistics over the B images apart for each
    /// of n places, then a mean over places.
    pub(super) fn of(x: &Tensor, y: &Tensor) -> Result<Self> {
        let (one, other) = (Spread::of(x)?, Spread::of(y)?);
        let variance = ((one.variance + other.variance)? * 0.5)?;
        let covariance = ((one.covariance + other.covariance)? * 0.5)?;
        Ok(Self([invariance(x, y)?, variance, covariance]))
    }

    /// A weighted sum.
    pub(super) fn sum(parts: Vec<(f64, Self)>) -> Result<Self> {
        let mut each = [Vec::new(), Vec::new(), Vec::new()];
        for (weight, Self(terms)) in parts {
            each.iter_mut().zip(terms).for_each(|(list, term)| list.push((weight, term)));
        }
        let [s, v, c] = each;
        Ok(Self([sum(s)?, sum(v)?, sum(c)?]))
    }

    /// `λ s + μ v + ν c` (Eq. 6) with `weights` `[λ, μ, ν]`.
    pub(super) fn total(&self, weights: [f64; 3]) -> Result<Tensor> {
        let [s, v, c] = &self.0;
        let [lambda, mu, nu] = weights;
        ((s * lambda)? + (v * mu)?)? + (c * nu)?
    }
}

/// `s(x, y)`, the mean of `(x − y)²` (Eq. 5).
pub(super) fn invariance(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    (x - y)?.sqr()?.mean_all()
}

/// The variation of the channels of a batch.
#[derive(Debug)]
pub(super) struct Spread {
    /// `v(x)`: the mean of `max(0, 1 − √(Var(x) + ε))` over channels and places (Eq. 1 and 2).
    pub(super) variance: Tensor,
    /// `c(x)`: `1/C Σ_{i≠j} [C(x)]²_ij` with the unbiased covariance, a mean over places (Eq. 3 and 4).
    pub(super) covariance: Tensor,
}

impl Spread {
    /// Of `x` `[B, n, C]` with two images or more.
    pub(super) fn of(x: &Tensor) -> Result<Self> {
        let (images, places, channels) = x.dims3()?;
        let degrees = images as f64 - 1.0;
        let centred = x.broadcast_sub(&x.mean_keepdim(0)?)?;
        let deviation = ((centred.sqr()?.sum(0)? / degrees)? + EPSILON)?.sqrt()?;
        let variance = relu(&deviation.affine(-1.0, 1.0)?)?.mean_all()?;
        let by_place = centred.transpose(0, 1)?.contiguous()?;
        let scale = 1.0 / (degrees * degrees * (channels * places) as f64);
        let covariance = (off_diagonal(&by_place, &by_place)? * scale)?;
        Ok(Self { variance, covariance })
    }
}
