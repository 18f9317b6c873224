//! Convolutions of rows of channels, with their gradients, each by the way that suits its shape.

mod pointwise;
mod strided;
mod transforms;
mod unfolded;
mod winograd;

use candle_core::WithDType;

use super::buffers::{Buffer, Buffers};
use super::rows::{Outgoing, Source};
use super::simd::LANES;
use super::sums::{Moments, Rectified, Sums};

/// The sizes of a convolution: `[N, H, W, C]` with `[O, C, k, k]` to `[N, H', W', O]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Convolution {
    pub(super) images: usize,
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    pub(super) kernel: usize,
    pub(super) stride: usize,
    pub(super) padding: usize,
}

/// Where the gradient of the input goes.
pub(super) struct Receiver<'a, T> {
    pub(super) into: &'a mut [T],
    /// What is done with it there: nothing, or the way back through the rectifier it was read by.
    pub(super) rectified: Option<Rectified<'a, T>>,
}

/// The gradients that are asked for.
pub(super) struct Wanted<'a, T> {
    pub(super) weight: Option<&'a mut [T]>,
    pub(super) input: Option<Receiver<'a, T>>,
}

/// How a convolution is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Pointwise,
    Strided,
    Winograd,
    Unfolded,
}

impl Convolution {
    pub(super) fn out_height(&self) -> usize {
        (self.height + 2 * self.padding - self.kernel) / self.stride + 1
    }

    pub(super) fn out_width(&self) -> usize {
        (self.width + 2 * self.padding - self.kernel) / self.stride + 1
    }

    /// Rows of the input.
    pub(super) fn in_rows(&self) -> usize {
        self.images * self.height * self.width
    }

    /// Rows of the output.
    pub(super) fn out_rows(&self) -> usize {
        self.images * self.out_height() * self.out_width()
    }

    /// Values of the weight.
    pub(super) fn weights(&self) -> usize {
        self.outputs * self.inputs * self.kernel * self.kernel
    }

    fn way(&self) -> Way {
        match (self.kernel, self.stride, self.padding) {
            (1, 1, 0) => Way::Pointwise,
            (1, _, 0) => Way::Strided,
            (3, 1, 1) if self.pays_transforming() => Way::Winograd,
            _ => Way::Unfolded,
        }
    }

    /// Whether the products that Winograd's way spares are worth the transforms of the filters,
    /// whose cost does not depend on the number of positions. Estimated, and settled so that the
    /// maps of 7x7 and 3x3 positions that were timed fall on their faster sides: a filter's transforms
    /// count as 200 tiles, and a tile as 2.6 positions of the plain way.
    fn pays_transforming(&self) -> bool {
        let in_lanes = self.inputs.is_multiple_of(LANES) && self.outputs.is_multiple_of(LANES);
        in_lanes && 10 * self.out_rows() > 26 * (winograd::tiles(self) + 200)
    }

    /// Writes the output; the moments of its parts when they are asked for.
    pub(super) fn forward<T: WithDType>(
        &self,
        source: Source<'_, T>,
        weight: &[T],
        out: &mut [T],
        buffers: &Buffers<T>,
        wants_moments: bool,
    ) -> Vec<Moments> {
        self.forward_by(self.way(), source, weight, out, buffers, wants_moments)
    }

    fn forward_by<T: WithDType>(
        &self,
        way: Way,
        source: Source<'_, T>,
        weight: &[T],
        out: &mut [T],
        buffers: &Buffers<T>,
        wants_moments: bool,
    ) -> Vec<Moments> {
        match way {
            Way::Pointwise => self.pointwise_forward(source, weight, out, buffers, wants_moments),
            Way::Strided => self.strided_forward(source, weight, out, buffers, wants_moments),
            Way::Winograd => self.winograd_forward(source, weight, out, buffers, wants_moments),
            Way::Unfolded => self.unfolded_forward(source, weight, out, buffers, wants_moments),
        }
    }

    /// Writes the gradients that are asked for; where the input was read rectified, the sums over
    /// its gradient.
    pub(super) fn backward<T: WithDType>(
        &self,
        source: Source<'_, T>,
        weight: &[T],
        outgoing: Outgoing<'_, T>,
        wanted: Wanted<'_, T>,
        buffers: &Buffers<T>,
    ) -> Vec<Sums> {
        self.backward_by(self.way(), source, weight, outgoing, wanted, buffers)
    }

    fn backward_by<T: WithDType>(
        &self,
        way: Way,
        source: Source<'_, T>,
        weight: &[T],
        outgoing: Outgoing<'_, T>,
        wanted: Wanted<'_, T>,
        buffers: &Buffers<T>,
    ) -> Vec<Sums> {
        match way {
            Way::Pointwise => self.pointwise_backward(source, weight, outgoing, wanted, buffers),
            Way::Strided => self.strided_backward(source, weight, outgoing, wanted, buffers),
            Way::Winograd => self.winograd_backward(source, weight, outgoing, wanted, buffers),
            Way::Unfolded => self.unfolded_backward(source, weight, outgoing, wanted, buffers),
        }
    }
}

/// Adds up equally long vectors, in their order, on all threads.
fn add_up<T: WithDType>(into: &mut [T], parts: &[impl std::ops::Deref<Target = [T]> + Sync]) {
    use rayon::prelude::*;
    const CHUNK: usize = 1 << 13;
    into.par_chunks_mut(CHUNK).enumerate().for_each(|(number, into)| {
        into.fill(T::zero());
        for part in parts {
            let part = &part[number * CHUNK..][..into.len()];
            crate::nn::kernel::real::vectorised(
                #[inline(always)]
                || {
                    into.iter_mut().zip(part).for_each(|(sum, value)| *sum += *value);
                },
            );
        }
    });
}

/// The transpose of a matrix of `rows` rows, a square that fits the registers at a time.
fn transpose<T: WithDType>(matrix: &[T], rows: usize, buffers: &Buffers<T>) -> Buffer<T> {
    use rayon::prelude::*;
    const SIDE: usize = 16;
    let columns = matrix.len() / rows;
    let mut out = buffers.take(matrix.len());
    out.par_chunks_mut(SIDE * rows).enumerate().for_each(|(number, out)| {
        let (first, width) = (number * SIDE, out.len() / rows);
        let mut square = [[T::zero(); SIDE]; SIDE];
        for start in (0..rows).step_by(SIDE) {
            let height = SIDE.min(rows - start);
            for row in 0..height {
                let from = (start + row) * columns + first;
                square[row][..width].copy_from_slice(&matrix[from..from + width]);
            }
            for (at, out) in out.chunks_exact_mut(rows).enumerate() {
                for (row, out) in out[start..start + height].iter_mut().enumerate() {
                    *out = square[row][at];
                }
            }
        }
    });
    out
}

#[cfg(test)]
mod tests;
