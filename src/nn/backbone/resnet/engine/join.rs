//! The join of the two paths of a residual block: forward a rectified sum, backward its gradient.

use candle_core::WithDType;
use rayon::prelude::*;

use super::rows::Affine;
use super::sums::{Sums, sums};
use crate::nn::kernel::real::vectorised;

/// Values of a part of the rows.
const PART: usize = 64 << 10;

/// The other path into a join: what the block was given, or a normalised convolution of it.
#[derive(Clone, Copy)]
pub(super) enum Shortcut<'a, T> {
    Identity(&'a [T]),
    Normalised(&'a [T], &'a Affine<T>),
}

fn part(channels: usize) -> usize {
    (PART / channels).max(1) * channels
}

/// `max(slope z + offset + shortcut, 0)`
pub(super) fn forward<T: WithDType>(
    z: &[T],
    affine: &Affine<T>,
    shortcut: Shortcut<'_, T>,
    out: &mut [T],
) {
    let channels = affine.slope.len();
    let (slope, offset) = (&affine.slope[..channels], &affine.offset[..channels]);
    let zero = T::zero();
    let part = part(channels);
    out.par_chunks_mut(part).enumerate().for_each(|(number, out)| {
        let range = number * part..number * part + out.len();
        let rows = out.chunks_exact_mut(channels).zip(z[range.clone()].chunks_exact(channels));
        match shortcut {
            Shortcut::Identity(other) => {
                let rows = rows.zip(other[range].chunks_exact(channels));
                vectorised(
                    #[inline(always)]
                    || {
                        for ((out, z), other) in rows {
                            for at in 0..channels {
                                let y = z[at] * slope[at] + offset[at] + other[at];
                                out[at] = if y > zero { y } else { zero };
                            }
                        }
                    },
                );
            }
            Shortcut::Normalised(other, affine) => {
                let rows = rows.zip(other[range].chunks_exact(channels));
                let (slope2, offset2) = (&affine.slope[..channels], &affine.offset[..channels]);
                vectorised(
                    #[inline(always)]
                    || {
                        for ((out, z), other) in rows {
                            for at in 0..channels {
                                let y = z[at] * slope[at] + offset[at];
                                let y = y + (other[at] * slope2[at] + offset2[at]);
                                out[at] = if y > zero { y } else { zero };
                            }
                        }
                    },
                );
            }
        }
    });
}

/// A normalised path into the join: the convolution's output and its mean.
pub(super) type Path<'a, T> = (&'a [T], &'a [T]);

/// Adds `extra` to `g`, keeps what passes the rectifier, and sums it for each path:
/// `Σ g` and `Σ g (z − mean)`.
pub(super) fn backward<T: WithDType>(
    g: &mut [T],
    extra: Option<&[T]>,
    out: &[T],
    main: Path<'_, T>,
    shortcut: Option<Path<'_, T>>,
) -> (Sums, Option<Sums>) {
    let channels = main.1.len();
    let zero = T::zero();
    let part = part(channels);
    let of_part = |(number, g): (usize, &mut [T])| {
        let range = number * part..number * part + g.len();
        let out = &out[range.clone()][..g.len()];
        match extra {
            Some(extra) => {
                let extra = &extra[range.clone()][..g.len()];
                vectorised(
                    #[inline(always)]
                    || {
                        for at in 0..g.len() {
                            let sum = g[at] + extra[at];
                            g[at] = if out[at] > zero { sum } else { zero };
                        }
                    },
                );
            }
            None => vectorised(
                #[inline(always)]
                || {
                    for at in 0..g.len() {
                        g[at] = if out[at] > zero { g[at] } else { zero };
                    }
                },
            ),
        }
        let of = |(z, mean): Path<'_, T>| sums(g, &z[range.clone()], mean);
        (of(main), shortcut.map(of))
    };
    let parts: Vec<_> = g.par_chunks_mut(part).enumerate().map(of_part).collect();
    let (main, shortcut): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
    let shortcut: Option<Vec<Sums>> = shortcut.into_iter().collect();
    (Sums::total(&main), shortcut.map(|parts| Sums::total(&parts)))
}
