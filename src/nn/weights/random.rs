//! Weights before any training, from a seed.

use candle_core::{Device, Result, Tensor};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::expected;
use crate::domain::Architecture;
use crate::nn::Tensors;

/// Deviation of a transformer's random linear layers, patches and position tables.
const TRANSFORMER_STD: f64 = 0.02;

/// Random weights: convolutions normal with variance `2 / fan_out` (He et al. 2015), normalisation
/// 1, 0, 0, 1; a transformer's linear layers, patches and positions normal with deviation 0.02.
/// Equal seeds give equal weights.
pub fn random(architecture: Architecture, seed: u64) -> Result<Tensors> {
    let mut random = StdRng::seed_from_u64(seed);
    let tensor = |(name, shape): (String, Vec<usize>)| -> Result<(String, Tensor)> {
        let count = shape.iter().product();
        let values = if shape.len() == 2 || name.starts_with("patch_embed.proj.w") {
            normal(&mut random, count, TRANSFORMER_STD)
        } else if shape.len() == 4 {
            let fan_out = shape[0] * shape[2] * shape[3];
            normal(&mut random, count, (2.0 / fan_out as f64).sqrt())
        } else if name.ends_with("running_var") || name.ends_with("weight") {
            vec![1.0; count]
        } else {
            vec![0.0; count]
        };
        Ok((name, Tensor::from_vec(values, shape, &Device::Cpu)?))
    };
    expected(architecture).into_iter().map(tensor).collect()
}

/// Normal values of mean 0 by Box and Muller's method.
pub fn normal(random: &mut StdRng, count: usize, std: f64) -> Vec<f32> {
    (0..count)
        .map(|_| {
            let radius = (-2.0 * (1.0 - random.random::<f64>()).ln()).sqrt();
            let angle = 2.0 * std::f64::consts::PI * random.random::<f64>();
            (std * radius * angle.cos()) as f32
        })
        .collect()
}
