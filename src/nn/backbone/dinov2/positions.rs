//! Positions of a map of one size brought to another: bicubic interpolation as a matrix for each side.
//!
//! What PyTorch's `interpolate` computes (`mode="bicubic"`, `align_corners=False`) is `W_y P W_xᵀ` for each
//! channel, with a matrix for each side; its gradient is the product with the transposed ones.

use candle_core::{Result, Tensor, bail};

/// The way in which positions are brought to a map of another size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interpolation {
    /// Keys' cubic with `a = −3/4` whose taps beyond the border fall on it: networks without registers, as
    /// `Dinov2Model` has it. The authors' code adds 0.1 to the size asked for, which changes an embedding by
    /// less than one in three hundred.
    Clamped,
    /// The cubic with `a = −1/2`, widened where the map shrinks, its taps within the border made to add up to
    /// one: networks with registers.
    Antialiased,
}

/// Keys' cubic kernel (Keys 1981, eq. 15) with parameter `a`.
fn cubic(u: f64, a: f64) -> f64 {
    let u = u.abs();
    if u <= 1.0 {
        ((a + 2.0) * u - (a + 3.0)) * u * u + 1.0
    } else if u < 2.0 {
        ((a * u - 5.0 * a) * u + 8.0 * a) * u - 4.0 * a
    } else {
        0.0
    }
}

/// `W` `[to, from]` row by row: the share of each of `from` places in each of `to`. Rows add up to one.
pub fn shares(from: usize, to: usize, interpolation: Interpolation) -> Vec<f64> {
    let mut shares = vec![0.0; to * from];
    let scale = from as f64 / to as f64;
    for (row, shares) in shares.chunks_exact_mut(from.max(1)).enumerate() {
        let centre = (row as f64 + 0.5) * scale;
        match interpolation {
            Interpolation::Clamped => clamped(centre - 0.5, shares),
            Interpolation::Antialiased => antialiased(centre, scale.max(1.0), shares),
        }
    }
    shares
}

/// Four taps around a place, those beyond the border on its last place.
fn clamped(place: f64, shares: &mut [f64]) {
    let first = place.floor();
    for tap in -1_i32..=2 {
        let at = (first + f64::from(tap)).clamp(0.0, (shares.len() - 1) as f64) as usize;
        shares[at] += cubic(f64::from(tap) - (place - first), -0.75);
    }
}

/// All taps within twice `reach` of a centre, made to add up to one.
fn antialiased(centre: f64, reach: f64, shares: &mut [f64]) {
    let low = (centre - 2.0 * reach + 0.5).trunc().max(0.0) as usize;
    let high = ((centre + 2.0 * reach + 0.5).trunc() as usize).min(shares.len());
    let mut sum = 0.0;
    for (at, share) in shares.iter_mut().enumerate().take(high).skip(low) {
        *share = cubic((at as f64 - centre + 0.5) / reach, -0.5);
        sum += *share;
    }
    shares.iter_mut().for_each(|share| *share /= sum);
}

/// Positions `[1, n², D]` of a square map at the size of a map of `rows` and `columns`: `[1, rows · columns,
/// D]`.
pub fn at_size(
    positions: &Tensor,
    (rows, columns): (usize, usize),
    interpolation: Interpolation,
) -> Result<Tensor> {
    let (_, count, channels) = positions.dims3()?;
    let side = count.isqrt();
    if side * side != count {
        bail!("{count} positions are not those of a square map");
    }
    if (rows, columns) == (side, side) {
        return Ok(positions.clone());
    }
    let matrix = |to: usize| -> Result<Tensor> {
        let shares = shares(side, to, interpolation);
        Tensor::from_vec(shares, (to, side), positions.device())?.to_dtype(positions.dtype())
    };
    let down = matrix(rows)?.matmul(&positions.reshape((side, side * channels))?)?;
    let turned = down.reshape((rows, side, channels))?.transpose(0, 1)?.contiguous()?;
    let across = matrix(columns)?.matmul(&turned.reshape((side, rows * channels))?)?;
    let map = across.reshape((columns, rows, channels))?.transpose(0, 1)?.contiguous()?;
    map.reshape((1, rows * columns, channels))
}

#[cfg(test)]
mod tests {
    use super::{Interpolation, shares};

    /// By hand: five places brought to four are 0.125, 1.375 and their mirror images; the tap before the
    /// border falls on it.
    #[test]
    fn the_first_place_of_four_is_made_of_the_first_four_of_five() {
        let found = shares(5, 4, Interpolation::Clamped);
        let expected = [0.895_507_812_5, 0.114_746_093_75, -0.010_253_906_25, 0.0, 0.0];
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?}");
    }

    #[test]
    fn rows_add_up_to_one_and_equal_sizes_change_nothing() {
        for interpolation in [Interpolation::Clamped, Interpolation::Antialiased] {
            for (from, to) in [(37, 16), (5, 13), (1, 3), (7, 7)] {
                for (row, shares) in shares(from, to, interpolation).chunks(from).enumerate() {
                    assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-12);
                    if from == to {
                        assert!((shares[row] - 1.0).abs() < 1e-12, "{shares:?}");
                    }
                }
            }
        }
    }
}
