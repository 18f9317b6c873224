//! The stem's 3x3 maximum of stride 2, taken of normalised and rectified values as they are read.

use candle_core::WithDType;
use rayon::prelude::*;

use super::rows::Affine;
use super::sums::{Rectified, Sums};
use crate::nn::kernel::real::vectorised;

/// Side of the window; padding 1, stride 2.
const WINDOW: usize = 3;

/// The sizes of a pooling: `[N, H, W, C]` to `[N, H', W', C]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pooling {
    pub(super) images: usize,
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) channels: usize,
}

impl Pooling {
    pub(super) fn out_height(&self) -> usize {
        self.height.div_ceil(2)
    }

    pub(super) fn out_width(&self) -> usize {
        self.width.div_ceil(2)
    }

    /// Values of the output.
    pub(super) fn outputs(&self) -> usize {
        self.images * self.out_height() * self.out_width() * self.channels
    }

    /// Input coordinate of place `tap` of the window at `out`, where it lies in the image.
    fn tap(out: usize, tap: usize, end: usize) -> Option<usize> {
        (2 * out + tap).checked_sub(1).filter(|at| *at < end)
    }

    /// Writes the maxima of `max(slope z + offset, 0)` and which place of the window each is at,
    /// the first of equals.
    pub(super) fn forward<T: WithDType>(
        &self,
        z: &[T],
        Affine { slope, offset }: &Affine<T>,
        out: &mut [T],
        places: &mut [u8],
    ) {
        let channels = self.channels;
        let line = self.out_width() * channels;
        let lines = out.par_chunks_exact_mut(line).zip(places.par_chunks_exact_mut(line));
        lines.enumerate().for_each(|(number, (out, places))| {
            let (image, y) = (number / self.out_height(), number % self.out_height());
            let mut which = vec![0_u32; channels];
            for x in 0..self.out_width() {
                let best = &mut out[x * channels..][..channels];
                best.fill(T::from_f64(f64::NEG_INFINITY));
                for place in 0..WINDOW * WINDOW {
                    let Some(y) = Self::tap(y, place / WINDOW, self.height) else { continue };
                    let Some(x) = Self::tap(x, place % WINDOW, self.width) else { continue };
                    let z = &z[((image * self.height + y) * self.width + x) * channels..];
                    take_better(best, &mut which, &z[..channels], (slope, offset), place as u32);
                }
                let zero = T::zero();
                best.iter_mut().for_each(|best| *best = if *best > zero { *best } else { zero });
                let places = &mut places[x * channels..][..channels];
                places.iter_mut().zip(&which).for_each(|(place, which)| *place = *which as u8);
            }
        });
    }

    /// Writes the gradient of what the maximum was taken of from that of the maxima, as it passes
    /// the rectifier, with its sums.
    pub(super) fn backward<T: WithDType>(
        &self,
        g: &[T],
        places: &[u8],
        rectified: Rectified<'_, T>,
        d_y: &mut [T],
    ) -> Vec<Sums> {
        let channels = self.channels;
        let image = self.height * self.width * channels;
        let out_image = self.out_height() * self.out_width() * channels;
        let images = d_y.par_chunks_exact_mut(image);
        let images = images.zip(g.par_chunks_exact(out_image));
        let images = images.zip(places.par_chunks_exact(out_image));
        let of_image = |number: usize, d_y: &mut [T], g: &[T], places: &[u8]| {
            d_y.fill(T::zero());
            for (position, (g, places)) in
                g.chunks_exact(channels).zip(places.chunks_exact(channels)).enumerate()
            {
                let (y, x) = (position / self.out_width(), position % self.out_width());
                for place in 0..WINDOW * WINDOW {
                    let Some(y) = Self::tap(y, place / WINDOW, self.height) else { continue };
                    let Some(x) = Self::tap(x, place % WINDOW, self.width) else { continue };
                    let into = &mut d_y[(y * self.width + x) * channels..][..channels];
                    add_where(into, g, places, place as u8);
                }
            }
            rectified.part(number * image..(number + 1) * image).pass(d_y)
        };
        let images = images.enumerate();
        images.map(|(number, ((d_y, g), places))| of_image(number, d_y, g, places)).collect()
    }
}

fn take_better<T: WithDType>(
    best: &mut [T],
    which: &mut [u32],
    z: &[T],
    (slope, offset): (&[T], &[T]),
    place: u32,
) {
    let count = best.len();
    let (which, z) = (&mut which[..count], &z[..count]);
    let (slope, offset) = (&slope[..count], &offset[..count]);
    vectorised(
        #[inline(always)]
        || {
            for at in 0..count {
                let y = z[at] * slope[at] + offset[at];
                let better = y > best[at];
                best[at] = if better { y } else { best[at] };
                which[at] = if better { place } else { which[at] };
            }
        },
    );
}

fn add_where<T: WithDType>(into: &mut [T], g: &[T], places: &[u8], place: u8) {
    let count = into.len();
    let (g, places) = (&g[..count], &places[..count]);
    let zero = T::zero();
    vectorised(
        #[inline(always)]
        || {
            for at in 0..count {
                into[at] += if places[at] == place { g[at] } else { zero };
            }
        },
    );
}
