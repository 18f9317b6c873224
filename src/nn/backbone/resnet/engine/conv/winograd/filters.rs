//! Filters into thirty-six places, and their gradients back from there.

use candle_core::WithDType;
use rayon::prelude::*;

use super::super::convolution::Convolution;
use super::super::transforms::{PLACES, TILE, both, filter, filter_transposed, load, scatter};
use super::tiling::{by_tile_row, place_stride};
use crate::nn::backbone::resnet::engine::buffers::{Buffer, Buffers};
use crate::nn::backbone::resnet::engine::simd::{LANES, Lanes};
use crate::nn::kernel::real::vectorised;

/// Inputs, or outputs, whose filters one task transforms.
const FILTERS: usize = 8;

/// The side of the transformed filters that comes first.
#[derive(Clone, Copy)]
pub(super) enum Order {
    InputsFirst,
    OutputsFirst,
}

impl Convolution {
    /// `U = G g Gᵀ`: `[PLACES, C, O]` for the forward pass, `[PLACES, O, C]` for the backward
    /// pass.
    pub(super) fn transform_filters<T: WithDType>(
        &self,
        weight: &[T],
        order: Order,
        buffers: &Buffers<T>,
    ) -> Buffer<T> {
        // Places of a filter in the weight, along the outer and the inner side.
        let (from_input, from_output) = ((self.inputs, 9), (self.outputs, 9 * self.inputs));
        let (outer, inner) = match order {
            Order::InputsFirst => (from_input, from_output),
            Order::OutputsFirst => (from_output, from_input),
        };
        let mut filters = buffers.take(PLACES * place_stride(self.inputs, self.outputs));
        let parts = by_tile_row(&mut filters, outer.0, FILTERS, inner.0);
        parts.into_par_iter().enumerate().for_each(|(part, mut places)| {
            vectorised(
                #[inline(always)]
                || {
                    for own in 0..FILTERS {
                        let line = (part * FILTERS + own) * outer.1;
                        for first in (0..inner.0).step_by(LANES) {
                            let mut g = [[Lanes::zero(); 3]; 3];
                            for (tap, lanes) in g.as_flattened_mut().iter_mut().enumerate() {
                                let start = line + first * inner.1 + tap;
                                *lanes = Lanes::gather(weight, start, inner.1);
                            }
                            let u = both::<T, 3, TILE>(&g, filter);
                            scatter(&u, &mut places, own * inner.0 + first);
                        }
                    }
                },
            );
        });
        filters
    }

    /// `dg = Gᵀ dU G`
    pub(super) fn transform_filters_back<T: WithDType>(&self, d_filters: &[T], d_weight: &mut [T]) {
        let (inputs, outputs) = (self.inputs, self.outputs);
        d_weight.par_chunks_exact_mut(LANES * inputs * 9).enumerate().for_each(|(part, out)| {
            vectorised(
                #[inline(always)]
                || {
                    for input in 0..inputs {
                        let start = input * outputs + part * LANES;
                        let place = place_stride(inputs, outputs);
                        let u = load::<T, TILE>(d_filters, start, place, TILE * place);
                        let g = both::<T, TILE, 3>(&u, filter_transposed);
                        for lane in 0..LANES {
                            let out = &mut out[(lane * inputs + input) * 9..][..9];
                            for (at, out) in out.iter_mut().enumerate() {
                                *out = g[at / 3][at % 3].get(lane);
                            }
                        }
                    }
                },
            );
        });
    }
}
