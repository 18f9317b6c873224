//! Differentiable layers, networks, optimisers and weights on candle.
//!
//! candle's own layers lose gradients in places and draw from a generator that cannot be seeded;
//! what is trained here goes through the operators of this module. Results are the same for every
//! number of threads: sums run in a fixed order, and threads only share out the outputs.

pub mod attention;
pub mod batch_norm;
mod columns;
pub mod conv;
pub mod conv_norm;
pub mod dropout;
mod encoder;
pub mod engine;
pub mod gelu;
pub mod gemm;
mod gradients;
mod lanes;
pub mod layer_norm;
pub mod lora;
pub mod loss;
pub mod ops;
pub mod optim;
pub mod params;
pub mod pool;
mod real;
pub mod resnet;
mod sink;
pub mod upsample;
mod views;
pub mod vit;
pub mod weights;

use std::collections::BTreeMap;

use candle_core::Tensor;

pub use encoder::{Encoder, Features, Mode};
pub use gradients::Gradients;
pub use params::Params;
pub use resnet::ResNet;
pub use vit::Vit;

/// Tensors by name, in the order of their names.
pub type Tensors = BTreeMap<String, Tensor>;

/// Runs `work` with the operators of this module on `threads` threads of their own.
pub fn with_threads<T: Send>(
    threads: usize,
    work: impl FnOnce() -> T + Send,
) -> Result<T, rayon::ThreadPoolBuildError> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|thread| format!("compute-{thread}"))
        // candle walks the graph recursively when it goes backwards.
        .stack_size(64 << 20)
        .build()?;
    Ok(pool.install(work))
}
