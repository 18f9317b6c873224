//! What happens to rows of channels on their way into and out of a matrix product.
//!
//! A row holds the channels of one position. Normalised values and gradients of convolutions are
//! never stored: they are made from what is stored, row by row, where a product reads them.

use candle_core::WithDType;

use crate::nn::real::vectorised;

/// Rows that are summed in the precision of the values; sums of such parts are added in 64 bits.
const SUMMED: usize = 128;

/// `slope z + offset` of each channel.
#[derive(Debug, Clone)]
pub(super) struct Affine<T> {
    pub(super) slope: Vec<T>,
    pub(super) offset: Vec<T>,
}

/// Rows as a product reads them.
#[derive(Clone, Copy)]
pub(super) struct Source<'a, T> {
    pub(super) values: &'a [T],
    /// Reads `max(slope z + offset, 0)` instead of `z`.
    pub(super) through: Option<&'a Affine<T>>,
}

impl<'a, T: WithDType> Source<'a, T> {
    /// The same reading of some of the values.
    pub(super) fn part(self, range: std::ops::Range<usize>) -> Self {
        Self { values: &self.values[range], ..self }
    }

    /// Writes the rows as they are read.
    pub(super) fn write(self, out: &mut [T]) {
        let Some(Affine { slope, offset }) = self.through else {
            out.copy_from_slice(self.values);
            return;
        };
        let zero = T::zero();
        let channels = slope.len();
        let (slope, offset) = (&slope[..channels], &offset[..channels]);
        vectorised(
            #[inline(always)]
            || {
                for (out, z) in
                    out.chunks_exact_mut(channels).zip(self.values.chunks_exact(channels))
                {
                    for at in 0..channels {
                        let y = z[at] * slope[at] + offset[at];
                        out[at] = if y > zero { y } else { zero };
                    }
                }
            },
        );
    }

    /// The rows as they are read: in place where they lie so, else in `scratch`.
    pub(super) fn read<'b>(self, scratch: &'b mut [T]) -> &'b [T]
    where
        'a: 'b,
    {
        if self.through.is_none() {
            return self.values;
        }
        let scratch = &mut scratch[..self.values.len()];
        self.write(scratch);
        scratch
    }
}

/// The gradient of a convolution's output `z` from that of what follows its normalisation:
/// `dz = a g + b z + c` for each channel, `b` and `c` only where the statistics are the batch's.
#[derive(Debug, Clone)]
pub(super) struct Line<T> {
    pub(super) a: Vec<T>,
    pub(super) rest: Option<(Vec<T>, Vec<T>)>,
}

/// Rows of such a gradient.
#[derive(Clone, Copy)]
pub(super) struct Outgoing<'a, T> {
    pub(super) g: &'a [T],
    pub(super) z: &'a [T],
    pub(super) line: &'a Line<T>,
}

impl<T: WithDType> Outgoing<'_, T> {
    /// The same gradient at some of the rows.
    pub(super) fn part(self, range: std::ops::Range<usize>) -> Self {
        Self { g: &self.g[range.clone()], z: &self.z[range], line: self.line }
    }

    /// Writes `dz` of the channels from `first` on, `width` of them a row.
    pub(super) fn write_columns(self, first: usize, width: usize, out: &mut [T]) {
        let channels = self.line.a.len();
        let a = &self.line.a[first..first + width];
        let rows = self.g.chunks_exact(channels).zip(self.z.chunks_exact(channels));
        let rows = out.chunks_exact_mut(width).zip(rows);
        vectorised(
            #[inline(always)]
            || match &self.line.rest {
                None => {
                    for (out, (g, _)) in rows {
                        let g = &g[first..first + width];
                        for at in 0..width {
                            out[at] = a[at] * g[at];
                        }
                    }
                }
                Some((b, c)) => {
                    let (b, c) = (&b[first..first + width], &c[first..first + width]);
                    for (out, (g, z)) in rows {
                        let (g, z) = (&g[first..first + width], &z[first..first + width]);
                        for at in 0..width {
                            out[at] = a[at] * g[at] + b[at] * z[at] + c[at];
                        }
                    }
                }
            },
        );
    }

    /// Writes `dz`.
    pub(super) fn write(self, out: &mut [T]) {
        self.write_columns(0, self.line.a.len(), out);
    }
}

/// Two sums of each channel over some rows, and how many rows there were.
#[derive(Debug, Clone, Default)]
pub(super) struct Sums {
    pub(super) rows: usize,
    pub(super) first: Vec<f64>,
    pub(super) second: Vec<f64>,
}

impl Sums {
    /// Sums over `rows` rows: `part` sums some of them into two slices of zeros.
    fn over<T: WithDType>(
        rows: usize,
        channels: usize,
        mut part: impl FnMut(std::ops::Range<usize>, &mut [T], &mut [T]),
    ) -> Self {
        let mut sums = Self { rows, first: vec![0.0; channels], second: vec![0.0; channels] };
        let (mut first, mut second) = (vec![T::zero(); channels], vec![T::zero(); channels]);
        for start in (0..rows).step_by(SUMMED) {
            first.fill(T::zero());
            second.fill(T::zero());
            let end = (start + SUMMED).min(rows);
            part(start * channels..end * channels, &mut first, &mut second);
            sums.first.iter_mut().zip(&first).for_each(|(sum, value)| *sum += value.to_f64());
            sums.second.iter_mut().zip(&second).for_each(|(sum, value)| *sum += value.to_f64());
        }
        sums
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

/// How a value that was read rectified is to be differentiated: where it was stored and how read.
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
        let (slope, offset) = (&self.affine.slope[..channels], &self.affine.offset[..channels]);
        let center = &self.center[..channels];
        let zero = T::zero();
        Sums::over(g.len() / channels, channels, |range, total: &mut [T], along: &mut [T]| {
            let (total, along) = (&mut total[..channels], &mut along[..channels]);
            let rows = g[range.clone()].chunks_exact_mut(channels);
            let rows = rows.zip(self.z[range].chunks_exact(channels));
            vectorised(
                #[inline(always)]
                || {
                    for (g, z) in rows {
                        for at in 0..channels {
                            let passes = z[at] * slope[at] + offset[at] > zero;
                            let value = if passes { g[at] } else { zero };
                            g[at] = value;
                            total[at] += value;
                            along[at] += value * (z[at] - center[at]);
                        }
                    }
                },
            );
        })
    }
}

/// `Σ g` and `Σ g (z − center)` of rows that pass as they are.
pub(super) fn sums<T: WithDType>(g: &[T], z: &[T], center: &[T]) -> Sums {
    let channels = center.len();
    Sums::over(g.len() / channels, channels, |range, total: &mut [T], along: &mut [T]| {
        let (total, along) = (&mut total[..channels], &mut along[..channels]);
        let rows = g[range.clone()].chunks_exact(channels);
        let rows = rows.zip(z[range].chunks_exact(channels));
        vectorised(
            #[inline(always)]
            || {
                for (g, z) in rows {
                    for at in 0..channels {
                        total[at] += g[at];
                        along[at] += g[at] * (z[at] - center[at]);
                    }
                }
            },
        );
    })
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
        let Sums { rows, first, second } =
            Sums::over(z.len() / channels, channels, |range, total: &mut [T], square: &mut [T]| {
                let (total, square) = (&mut total[..channels], &mut square[..channels]);
                let rows = z[range].chunks_exact(channels);
                vectorised(
                    #[inline(always)]
                    || {
                        for z in rows {
                            for at in 0..channels {
                                let value = z[at] - center[at];
                                total[at] += value;
                                square[at] += value * value;
                            }
                        }
                    },
                );
            });
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
