//! From candle's channels-first tensors to rows of channels and back.

use candle_core::WithDType;
use rayon::prelude::*;

/// Positions turned at a time.
const POSITIONS: usize = 16;

/// `[N, C, P]` to `[N, P, C]`.
pub(super) fn to_rows<T: WithDType>(
    planes: &[T],
    channels: usize,
    positions: usize,
    out: &mut [T],
) {
    let image = channels * positions;
    out.par_chunks_exact_mut(image).zip(planes.par_chunks_exact(image)).for_each(|(out, own)| {
        for first in (0..positions).step_by(POSITIONS) {
            let last = (first + POSITIONS).min(positions);
            for channel in 0..channels {
                for at in first..last {
                    out[at * channels + channel] = own[channel * positions + at];
                }
            }
        }
    });
}

/// `[N, P, C]` to `[N, C, P]`.
pub(super) fn to_planes<T: WithDType>(
    rows: &[T],
    channels: usize,
    positions: usize,
    out: &mut [T],
) {
    to_rows(rows, positions, channels, out);
}
