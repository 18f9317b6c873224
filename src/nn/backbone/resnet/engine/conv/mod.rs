//! Convolutions of rows of channels, with their gradients, each by the way that suits its shape.

mod convolution;
mod matrices;
mod pointwise;
mod strided;
mod transforms;
mod unfolded;
mod winograd;

use candle_core::WithDType;

use super::buffers::Buffers;
use super::rows::{Outgoing, Source};
use super::simd::LANES;
use super::sums::{Moments, Sums};

pub(super) use convolution::{Convolution, Receiver, Wanted};

/// The way in which a convolution is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Pointwise,
    Strided,
    Winograd,
    Unfolded,
}

impl Convolution {
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

#[cfg(test)]
mod tests;
