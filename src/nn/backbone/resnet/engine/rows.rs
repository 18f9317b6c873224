//! The work on rows of channels on their way into and out of a matrix product.
//!
//! A row holds the channels of one position. Normalised values and gradients of convolutions are
//! never stored: they are made from what is stored, row by row, where a product reads them.

use candle_core::WithDType;

use crate::nn::kernel::real::vectorised;

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

/// Rows of such a gradient; without a line `dz` is `g`.
#[derive(Clone, Copy)]
pub(super) struct Outgoing<'a, T> {
    pub(super) g: &'a [T],
    pub(super) z: &'a [T],
    pub(super) channels: usize,
    pub(super) line: Option<&'a Line<T>>,
}

impl<'a, T: WithDType> Outgoing<'a, T> {
    /// The same gradient at some of the rows.
    pub(super) fn part(self, range: std::ops::Range<usize>) -> Self {
        Self { g: &self.g[range.clone()], z: &self.z[range], ..self }
    }

    /// Writes `dz` of the channels from `first` on, `width` of them a row.
    pub(super) fn write_columns(self, first: usize, width: usize, out: &mut [T]) {
        let channels = self.channels;
        let Some(line) = self.line else {
            for (out, g) in out.chunks_exact_mut(width).zip(self.g.chunks_exact(channels)) {
                out.copy_from_slice(&g[first..first + width]);
            }
            return;
        };
        let a = &line.a[first..first + width];
        let rows = self.g.chunks_exact(channels).zip(self.z.chunks_exact(channels));
        let rows = out.chunks_exact_mut(width).zip(rows);
        vectorised(
            #[inline(always)]
            || match &line.rest {
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
        self.write_columns(0, self.channels, out);
    }

    /// `dz`: in place where it is `g`, else in `scratch`.
    pub(super) fn read<'b>(self, scratch: &'b mut [T]) -> &'b [T]
    where
        'a: 'b,
    {
        if self.line.is_none() {
            return self.g;
        }
        let scratch = &mut scratch[..self.g.len()];
        self.write(scratch);
        scratch
    }
}
