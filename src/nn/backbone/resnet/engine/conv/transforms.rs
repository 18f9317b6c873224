//! The transforms of F(4x4, 3x3) and their transposes, over all channels of a few lanes at a time.
//!
//! With `V = Bᵀ d B` of a 6x6 tile `d` of the input, `U = G g Gᵀ` of a 3x3 filter `g` and
//! `M = Σ V ∘ U` over channels, `Y = Aᵀ M A` are 4x4 outputs (Lavin and Gray 2016, section 4).
//! Being linear, each is differentiated by its transpose: `dM = A dY Aᵀ`, `dd = B dV Bᵀ`,
//! `dg = Gᵀ dU G`. The interpolation points are 0, ±√½, ±√2 and infinity: reciprocal pairs keep the
//! entries of the three matrices alike in size, and 32-bit results have half the error on average,
//! and a third at most, of what the usual 0, ±1, ±2 and infinity leave (`scripts/winograd_points.py`;
//! Barabasz et al. 2020 explain why).

use std::f64::consts::{FRAC_1_SQRT_2, SQRT_2};

use candle_core::WithDType;

use crate::nn::backbone::resnet::engine::simd::Lanes;

/// Side of a tile of the input, and of everything transformed.
pub(super) const TILE: usize = 6;
/// Side of a tile of the output.
pub(super) const OUT: usize = 4;
/// Places of a transformed tile.
pub(super) const PLACES: usize = TILE * TILE;

/// `Bᵀ d`
#[inline(always)]
pub(super) fn input<T: WithDType>(d: [Lanes<T>; 6]) -> [Lanes<T>; 6] {
    let (even1, odd1) = (d[4] - d[2] * 2.0, (d[3] - d[1] * 2.0) * FRAC_1_SQRT_2);
    let (even2, odd2) = (d[4] - d[2] * 0.5, (d[3] - d[1] * 0.5) * SQRT_2);
    [
        d[0] - d[2] * 2.5 + d[4],
        even1 + odd1,
        even1 - odd1,
        even2 + odd2,
        even2 - odd2,
        d[1] - d[3] * 2.5 + d[5],
    ]
}

/// `B y`
#[inline(always)]
pub(super) fn input_transposed<T: WithDType>(y: [Lanes<T>; 6]) -> [Lanes<T>; 6] {
    let (even1, odd1) = (y[1] + y[2], (y[1] - y[2]) * FRAC_1_SQRT_2);
    let (even2, odd2) = (y[3] + y[4], (y[3] - y[4]) * SQRT_2);
    [
        y[0],
        y[5] - odd1 * 2.0 - odd2 * 0.5,
        y[0] * -2.5 - even1 * 2.0 - even2 * 0.5,
        odd1 + odd2 - y[5] * 2.5,
        y[0] + even1 + even2,
        y[5],
    ]
}

/// `Aᵀ m`
#[inline(always)]
pub(super) fn output<T: WithDType>(m: [Lanes<T>; 6]) -> [Lanes<T>; 4] {
    let (even1, odd1) = (m[1] + m[2], (m[1] - m[2]) * FRAC_1_SQRT_2);
    let (even2, odd2) = (m[3] + m[4], (m[3] - m[4]) * SQRT_2);
    [m[0] + even1 + even2, odd1 + odd2, even1 * 0.5 + even2 * 2.0, odd1 * 0.5 + odd2 * 2.0 + m[5]]
}

/// `A y`
#[inline(always)]
pub(super) fn output_transposed<T: WithDType>(y: [Lanes<T>; 4]) -> [Lanes<T>; 6] {
    let (even1, odd1) = (y[0] + y[2] * 0.5, (y[1] + y[3] * 0.5) * FRAC_1_SQRT_2);
    let (even2, odd2) = (y[0] + y[2] * 2.0, (y[1] + y[3] * 2.0) * SQRT_2);
    [y[0], even1 + odd1, even1 - odd1, even2 + odd2, even2 - odd2, y[3]]
}

/// `G g`
#[inline(always)]
pub(super) fn filter<T: WithDType>(g: [Lanes<T>; 3]) -> [Lanes<T>; 6] {
    let (first, second) = (-2.0 / 3.0, 1.0 / 6.0);
    let (even1, odd1) = ((g[0] + g[2] * 0.5) * first, g[1] * (first * FRAC_1_SQRT_2));
    let (even2, odd2) = ((g[0] + g[2] * 2.0) * second, g[1] * (second * SQRT_2));
    [g[0], even1 + odd1, even1 - odd1, even2 + odd2, even2 - odd2, g[2]]
}

/// `Gᵀ u`
#[inline(always)]
pub(super) fn filter_transposed<T: WithDType>(u: [Lanes<T>; 6]) -> [Lanes<T>; 3] {
    let (first, second) = (-2.0 / 3.0, 1.0 / 6.0);
    let (even1, odd1) = ((u[1] + u[2]) * first, (u[1] - u[2]) * (first * FRAC_1_SQRT_2));
    let (even2, odd2) = ((u[3] + u[4]) * second, (u[3] - u[4]) * (second * SQRT_2));
    [u[0] + even1 + even2, odd1 + odd2, even1 * 0.5 + even2 * 2.0 + u[5]]
}

/// Applies a transform along both sides of a square: `of` to its columns, then to its rows.
#[inline(always)]
pub(super) fn both<T: WithDType, const FROM: usize, const TO: usize>(
    square: &[[Lanes<T>; FROM]; FROM],
    of: impl Fn([Lanes<T>; FROM]) -> [Lanes<T>; TO],
) -> [[Lanes<T>; TO]; TO] {
    // Plain loops: closures over arrays would not be inlined into the wide version.
    let mut half = [[Lanes::zero(); FROM]; TO];
    for column in 0..FROM {
        let mut line = [Lanes::zero(); FROM];
        for row in 0..FROM {
            line[row] = square[row][column];
        }
        let done = of(line);
        for row in 0..TO {
            half[row][column] = done[row];
        }
    }
    let mut whole = [[Lanes::zero(); TO]; TO];
    for row in 0..TO {
        whole[row] = of(half[row]);
    }
    whole
}

/// A square of lanes: those at `start` and then every `across` values along, `down` values below.
#[inline(always)]
pub(super) fn load<T: WithDType, const SIDE: usize>(
    values: &[T],
    start: usize,
    across: usize,
    down: usize,
) -> [[Lanes<T>; SIDE]; SIDE] {
    let mut square = [[Lanes::zero(); SIDE]; SIDE];
    for (y, line) in square.iter_mut().enumerate() {
        for (x, lanes) in line.iter_mut().enumerate() {
            *lanes = Lanes::load(&values[start + y * down + x * across..]);
        }
    }
    square
}

/// Writes the places of a transformed tile, each to its own slice.
#[inline(always)]
pub(super) fn scatter<T: WithDType>(
    tile: &[[Lanes<T>; TILE]; TILE],
    places: &mut [&mut [T]],
    at: usize,
) {
    for (place, out) in places.iter_mut().enumerate() {
        tile[place / TILE][place % TILE].store(&mut out[at..]);
    }
}
