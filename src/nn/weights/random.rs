//! Weights before any training, from a seed.

use candle_core::{Device, Result, Tensor};
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::nn::backbone::architecture::Architecture;
use crate::nn::backbone::family::First;
use crate::nn::kernel::draw::normal;
use crate::nn::tape::params::Tensors;

/// Random weights as the architecture's family has them before training, drawn in the order of the names.
/// Equal seeds give equal weights.
pub fn random(architecture: Architecture, seed: u64) -> Result<Tensors> {
    let mut random = StdRng::seed_from_u64(seed);
    let family = architecture.family();
    let tensor = |(name, shape): (String, Vec<usize>)| -> Result<(String, Tensor)> {
        let count = shape.iter().product();
        let values = match family.first(&name, &shape) {
            First::Normal(std) => normal(&mut random, count, std),
            First::Constant(value) => vec![value; count],
        };
        Ok((name, Tensor::from_vec(values, shape, &Device::Cpu)?))
    };
    family.tensors().into_iter().map(tensor).collect()
}
