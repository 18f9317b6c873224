//! Values made from a name by whole-number arithmetic, as `scripts/torch_fixtures.py` makes them.

use candle_core::{DType, Device, Tensor};
use lvmed::nn::Tensors;

/// Values in `[center − scale, center + scale)`: SplitMix64 (Steele et al. 2014) seeded by the
/// FNV-1a hash of the name, rounded to 32 bits.
pub(super) fn draw(name: &str, shape: &[usize], scale: f64, center: f64) -> Tensor {
    let seed = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let value = |at: u64| {
        let z = at.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(seed);
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let unit = ((z ^ (z >> 31)) >> 40) as f64 / f64::from(1 << 24);
        (center + scale * (2.0 * unit - 1.0)) as f32
    };
    let count: usize = shape.iter().product();
    let values: Vec<f32> = (1..=count as u64).map(value).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).expect("a tensor")
}

/// The same in 64 bits, of scale one around zero.
pub(super) fn exact(name: &str, shape: &[usize]) -> Tensor {
    draw(name, shape, 1.0, 0.0).to_dtype(DType::F64).expect("64 bits")
}

/// Weights of a network by their names and shapes.
pub(super) fn weights<'a>(
    shapes: impl IntoIterator<Item = (&'a String, &'a Vec<usize>)>,
) -> Tensors {
    let tensor = |(name, shape): (&String, &Vec<usize>)| {
        let tensor = if name.ends_with("running_var") {
            draw(name, shape, 0.5, 1.0)
        } else if shape.len() > 1 {
            let fan_in: usize = shape[1..].iter().product();
            draw(name, shape, (3.0 / fan_in as f64).sqrt(), 0.0)
        } else if name.ends_with("weight") {
            draw(name, shape, 0.2, 1.0)
        } else {
            draw(name, shape, 0.1, 0.0)
        };
        (name.clone(), tensor)
    };
    shapes.into_iter().map(tensor).collect()
}
