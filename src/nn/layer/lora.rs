//! Low-rank adaptation (Hu et al. 2021): what a transformer's attention learns, in two thin factors.
//!
//! A weight becomes `W + (alpha / r) B A`. `attn.qkv` gets factors for its queries and its values,
//! `attn.proj` for its whole; `B` starts at zero, so that nothing changes before training.

use candle_core::{Device, Result, Tensor, bail};
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::nn::kernel::draw::normal;
use crate::nn::tape::params::Tensors;

/// Ending of the factor `A`, which takes the inputs to the rank.
pub(in crate::nn) const DOWN: &str = ".lora_a";
/// Ending of the factor `B`, which takes the rank to the outputs.
pub(in crate::nn) const UP: &str = ".lora_b";
/// Thirds of `attn.qkv` that are adapted: queries and values.
pub(in crate::nn) const QKV_PARTS: [usize; 2] = [0, 2];
/// `attn.proj` is adapted as one part.
pub(in crate::nn) const PROJ_PARTS: [usize; 1] = [0];

/// The adapted layers by the ends of their names, and the parts of their outputs.
const LAYERS: [(&str, &[usize], usize); 2] =
    [(".attn.qkv", &QKV_PARTS, 3), (".attn.proj", &PROJ_PARTS, 1)];

/// Whether a tensor of this name is a factor.
pub fn is_lora(name: &str) -> bool {
    name.ends_with(DOWN) || name.ends_with(UP)
}

/// Adds factors of `rank` for every attention layer: `A` `[P r, inputs]` normal with variance
/// `1 / inputs`, `B` `[P size, r]` zero, for the layer's `P` parts of `size` outputs. Refuses
/// weights without attention layers.
pub fn insert(tensors: &mut Tensors, rank: usize, seed: u64) -> Result<()> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut factors = Tensors::new();
    for (layer, parts, thirds) in adapted(tensors) {
        let (outputs, inputs) = tensors[&format!("{layer}.weight")].dims2()?;
        let size = outputs / thirds;
        if rank == 0 || rank > size.min(inputs) {
            bail!("the rank of factors for {layer} must be between 1 and {}", size.min(inputs));
        }
        let values = normal(&mut random, parts.len() * rank * inputs, (inputs as f64).powf(-0.5));
        let down = Tensor::from_vec(values, (parts.len() * rank, inputs), &Device::Cpu)?;
        let up = Tensor::zeros((parts.len() * size, rank), down.dtype(), &Device::Cpu)?;
        factors.insert(format!("{layer}{DOWN}"), down);
        factors.insert(format!("{layer}{UP}"), up);
    }
    if factors.is_empty() {
        bail!("low-rank factors are for transformers; these weights have no attention layer");
    }
    tensors.extend(factors);
    Ok(())
}

/// Plain weights that answer as these do with their factors: `W + (alpha / r) B A`.
pub fn merge(tensors: &Tensors, alpha: f64) -> Result<Tensors> {
    let mut merged = tensors.clone();
    merged.retain(|name, _| !is_lora(name));
    for (layer, parts, thirds) in adapted(tensors) {
        let (Some(down), Some(up)) =
            (tensors.get(&format!("{layer}{DOWN}")), tensors.get(&format!("{layer}{UP}")))
        else {
            continue;
        };
        let name = format!("{layer}.weight");
        let weight = &tensors[&name];
        let (size, rank) = (weight.dim(0)? / thirds, up.dim(1)?);
        let mut rows = weight.chunk(thirds, 0)?;
        for (number, part) in parts.iter().enumerate() {
            let up = up.narrow(0, number * size, size)?.contiguous()?;
            let product = up.matmul(&down.narrow(0, number * rank, rank)?.contiguous()?)?;
            rows[*part] = (&rows[*part] + (product * (alpha / rank as f64))?)?;
        }
        merged.insert(name, Tensor::cat(&rows, 0)?);
    }
    Ok(merged)
}

/// Layers that are adapted: name, parts, and how many parts of that size the outputs have.
fn adapted(tensors: &Tensors) -> Vec<(String, &'static [usize], usize)> {
    let of = |name: &String| {
        let layer = name.strip_suffix(".weight")?;
        let (_, parts, thirds) = LAYERS.iter().find(|(end, _, _)| layer.ends_with(end))?;
        Some((layer.to_owned(), *parts, *thirds))
    };
    tensors.keys().filter_map(of).collect()
}
