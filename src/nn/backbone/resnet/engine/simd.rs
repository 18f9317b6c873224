//! A few channels at a time: what becomes one vector, or two.

use std::ops::{Add, AddAssign, Mul, Sub};

use candle_core::WithDType;

/// Channels that a transform handles at a time.
pub(super) const LANES: usize = 16;

/// The values of [`LANES`] channels at one place.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Lanes<T>([T; LANES]);

impl<T: WithDType> Lanes<T> {
    #[inline(always)]
    pub(super) fn zero() -> Self {
        Self([T::zero(); LANES])
    }

    /// The first lanes of `values`.
    #[inline(always)]
    pub(super) fn load(values: &[T]) -> Self {
        let mut lanes = Self::zero();
        lanes.0.copy_from_slice(&values[..LANES]);
        lanes
    }

    #[inline(always)]
    pub(super) fn store(self, values: &mut [T]) {
        values[..LANES].copy_from_slice(&self.0);
    }

    /// Lane by lane the product.
    #[inline(always)]
    pub(super) fn times(mut self, other: Self) -> Self {
        for lane in 0..LANES {
            self.0[lane] *= other.0[lane];
        }
        self
    }

    /// The lanes where `gate` is positive, zeros elsewhere.
    #[inline(always)]
    pub(super) fn where_positive(mut self, gate: Self) -> Self {
        for lane in 0..LANES {
            self.0[lane] = if gate.0[lane] > T::zero() { self.0[lane] } else { T::zero() };
        }
        self
    }

    /// Lane `n` from `values[start + n * stride]`.
    #[inline(always)]
    pub(super) fn gather(values: &[T], start: usize, stride: usize) -> Self {
        let mut lanes = Self::zero();
        for lane in 0..LANES {
            lanes.0[lane] = values[start + lane * stride];
        }
        lanes
    }

    #[inline(always)]
    pub(super) fn get(&self, lane: usize) -> T {
        self.0[lane]
    }
}

impl<T: WithDType> Add for Lanes<T> {
    type Output = Self;

    #[inline(always)]
    fn add(mut self, other: Self) -> Self {
        for lane in 0..LANES {
            self.0[lane] += other.0[lane];
        }
        self
    }
}

impl<T: WithDType> AddAssign for Lanes<T> {
    #[inline(always)]
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl<T: WithDType> Sub for Lanes<T> {
    type Output = Self;

    #[inline(always)]
    fn sub(mut self, other: Self) -> Self {
        for lane in 0..LANES {
            self.0[lane] -= other.0[lane];
        }
        self
    }
}

impl<T: WithDType> Mul<f64> for Lanes<T> {
    type Output = Self;

    #[inline(always)]
    fn mul(mut self, factor: f64) -> Self {
        let factor = T::from_f64(factor);
        for own in &mut self.0 {
            *own *= factor;
        }
        self
    }
}
