//! Values drawn from a seed: candle's own generator cannot be seeded.

use rand::Rng;
use rand::rngs::StdRng;

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
