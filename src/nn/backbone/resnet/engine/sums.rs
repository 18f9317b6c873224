//! Sums over rows for each channel: moments of outputs, and what the backward pass of a normalisation
//! needs.
//!
//! Some rows at a time are summed in registers, a few lanes of channels after the other, and their
//! sums added in 64 bits: quick, since no sum goes through memory for each row, and exact to more
//! digits than one long sum would be.

use candle_core::WithDType;

use super::rows::Affine;
use super::simd::{LANES, Lanes};
use crate::nn::kernel::real::vectorised;

/// Rows that are summed in registers, in the precision of the values.
const ROWS: usize = 32;

/// Two sums of each channel over some rows, and how many rows there were.
#[derive(Debug, Clone, Default)]
pub(super) struct Sums {
    pub(super) rows: usize,
    pub(super) first: Vec<f64>,
    pub(super) second: Vec<f64>,
}

/// The values that are summed: two of each place, which may be changed on the way.
trait Summand<T> {
    /// The values of some lanes at `at`, the channels being those from `channel` on.
    fn lanes(&mut self, at: usize, channel: usize) -> (Lanes<T>, Lanes<T>);

    /// The values at `at`, for channels that fill no lanes.
    fn single(&mut self, at: usize, channel: usize) -> (T, T);
}

impl Sums {
    fn of<T: WithDType>(rows: usize, channels: usize, mut summand: impl Summand<T>) -> Self {
        let mut sums = Self { rows, first: vec![0.0; channels], second: vec![0.0; channels] };
        vectorised(
            #[inline(always)]
            || {
                for start in (0..rows).step_by(ROWS) {
                    let end = (start + ROWS).min(rows);
                    sums.add_part(start..end, channels, &mut summand);
                }
            },
        );
        sums
    }

    #[inline(always)]
    fn add_part<T: WithDType>(
        &mut self,
        rows: std::ops::Range<usize>,
        channels: usize,
        summand: &mut impl Summand<T>,
    ) {
        // Two strips at a time: the additions of one wait while those of the other are done.
        let paired = channels - channels % (2 * LANES);
        for channel in (0..paired).step_by(2 * LANES) {
            let (next, mut one, mut other) = (channel + LANES, Pair::zero(), Pair::zero());
            for row in rows.clone() {
                one.add(summand.lanes(row * channels + channel, channel));
                other.add(summand.lanes(row * channels + next, next));
            }
            one.finish(self, channel);
            other.finish(self, next);
        }
        let whole = channels - channels % LANES;
        for channel in (paired..whole).step_by(LANES) {
            let mut one = Pair::zero();
            for row in rows.clone() {
                one.add(summand.lanes(row * channels + channel, channel));
            }
            one.finish(self, channel);
        }
        for channel in whole..channels {
            for row in rows.clone() {
                let (first, second) = summand.single(row * channels + channel, channel);
                self.first[channel] += first.to_f64();
                self.second[channel] += second.to_f64();
            }
        }
    }

    /// The sum of parts, in their order.
    pub(super) fn total(parts: &[Self]) -> Self {
        let mut parts = parts.iter();
        let Some(mut total) = parts.next().cloned() else { return Self::default() };
        for part in parts {
            total.rows += part.rows;
            total.first.iter_mut().zip(&part.first).for_each(|(sum, value)| *sum += value);
            total.second.iter_mut().zip(&part.second).for_each(|(sum, value)| *sum += value);
        }
        total
    }
}

/// The two sums of some lanes.
struct Pair<T>(Lanes<T>, Lanes<T>);

impl<T: WithDType> Pair<T> {
    #[inline(always)]
    fn zero() -> Self {
        Self(Lanes::zero(), Lanes::zero())
    }

    #[inline(always)]
    fn add(&mut self, (first, second): (Lanes<T>, Lanes<T>)) {
        self.0 += first;
        self.1 += second;
    }

    #[inline(always)]
    fn finish(&self, sums: &mut Sums, channel: usize) {
        for lane in 0..LANES {
            sums.first[channel + lane] += self.0.get(lane).to_f64();
            sums.second[channel + lane] += self.1.get(lane).to_f64();
        }
    }
}

/// The rectified reading of a value that is to be differentiated: where it was stored and how it was
/// read.
#[derive(Clone, Copy)]
pub(super) struct Rectified<'a, T> {
    pub(super) z: &'a [T],
    pub(super) affine: &'a Affine<T>,
    /// Taken from `z` before it is multiplied: its mean, so that the sum keeps its digits.
    pub(super) center: &'a [T],
}

impl<T: WithDType> Rectified<'_, T> {
    /// The same at some of the rows.
    pub(super) fn part(self, range: std::ops::Range<usize>) -> Self {
        Self { z: &self.z[range], ..self }
    }

    /// Keeps of the gradient `g` what passes the rectifier; `Σ g` and `Σ g (z − center)`.
    pub(super) fn pass(self, g: &mut [T]) -> Sums {
        let channels = self.center.len();
        Sums::of(g.len() / channels, channels, Passing { rectified: self, g })
    }
}

struct Passing<'a, T> {
    rectified: Rectified<'a, T>,
    g: &'a mut [T],
}

impl<T: WithDType> Summand<T> for Passing<'_, T> {
    #[inline(always)]
    fn lanes(&mut self, at: usize, channel: usize) -> (Lanes<T>, Lanes<T>) {
        let Rectified { z, affine: Affine { slope, offset }, center } = self.rectified;
        let (g, z) = (&mut self.g[at..at + LANES], Lanes::load(&z[at..]));
        let of = |values: &[T]| Lanes::load(&values[channel..]);
        let passed = Lanes::load(g).where_positive(z.times(of(slope)) + of(offset));
        passed.store(g);
        (passed, passed.times(z - of(center)))
    }

    #[inline(always)]
    fn single(&mut self, at: usize, channel: usize) -> (T, T) {
        let Rectified { z, affine: Affine { slope, offset }, center } = self.rectified;
        let passes = z[at] * slope[channel] + offset[channel] > T::zero();
        let passed = if passes { self.g[at] } else { T::zero() };
        self.g[at] = passed;
        (passed, passed * (z[at] - center[channel]))
    }
}

/// `Σ g` and `Σ g (z − center)` of rows that pass as they are.
pub(super) fn sums<T: WithDType>(g: &[T], z: &[T], center: &[T]) -> Sums {
    Sums::of(g.len() / center.len(), center.len(), Along { g, z, center })
}

struct Along<'a, T> {
    g: &'a [T],
    z: &'a [T],
    center: &'a [T],
}

impl<T: WithDType> Summand<T> for Along<'_, T> {
    #[inline(always)]
    fn lanes(&mut self, at: usize, channel: usize) -> (Lanes<T>, Lanes<T>) {
        let (g, z) = (Lanes::load(&self.g[at..]), Lanes::load(&self.z[at..]));
        (g, g.times(z - Lanes::load(&self.center[channel..])))
    }

    #[inline(always)]
    fn single(&mut self, at: usize, channel: usize) -> (T, T) {
        (self.g[at], self.g[at] * (self.z[at] - self.center[channel]))
    }
}

/// Mean and sum of squared deviations of each channel over some rows.
#[derive(Debug, Clone)]
pub(super) struct Moments {
    pub(super) rows: usize,
    pub(super) mean: Vec<f64>,
    pub(super) squares: Vec<f64>,
}

impl Moments {
    /// Those of `z`; summed about its first row, so that no digits are lost to a large mean.
    pub(super) fn of<T: WithDType>(z: &[T], channels: usize) -> Self {
        let center = &z[..channels];
        let rows = z.len() / channels;
        let Sums { first, second, .. } = Sums::of(rows, channels, Squares { z, center });
        let count = rows as f64;
        let mut moments = Self {
            rows,
            mean: Vec::with_capacity(channels),
            squares: Vec::with_capacity(channels),
        };
        for ((center, total), square) in center.iter().zip(first).zip(second) {
            moments.mean.push(center.to_f64() + total / count);
            moments.squares.push((square - total * total / count).max(0.0));
        }
        moments
    }

    /// Those of all parts together (Chan et al. 1979), in their order.
    pub(super) fn merge(parts: &[Self]) -> Self {
        let mut parts = parts.iter();
        let Some(mut all) = parts.next().cloned() else {
            return Self { rows: 0, mean: Vec::new(), squares: Vec::new() };
        };
        for part in parts {
            let (own, other) = (all.rows as f64, part.rows as f64);
            let count = own + other;
            for at in 0..all.mean.len() {
                let apart = part.mean[at] - all.mean[at];
                all.mean[at] += apart * other / count;
                all.squares[at] += part.squares[at] + apart * apart * own * other / count;
            }
            all.rows += part.rows;
        }
        all
    }
}

struct Squares<'a, T> {
    z: &'a [T],
    center: &'a [T],
}

impl<T: WithDType> Summand<T> for Squares<'_, T> {
    #[inline(always)]
    fn lanes(&mut self, at: usize, channel: usize) -> (Lanes<T>, Lanes<T>) {
        let apart = Lanes::load(&self.z[at..]) - Lanes::load(&self.center[channel..]);
        (apart, apart.times(apart))
    }

    #[inline(always)]
    fn single(&mut self, at: usize, channel: usize) -> (T, T) {
        let apart = self.z[at] - self.center[channel];
        (apart, apart * apart)
    }
}
