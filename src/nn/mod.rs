//! Differentiable layers, networks, optimisers and weights on candle.
//!
//! candle's own layers lose gradients in places and draw from a generator that cannot be seeded;
//! what is trained here goes through the operators of this module. Results are the same for every
//! number of threads: sums run in a fixed order, and threads only share out the outputs.
//!
//! Nothing here knows files of the product, a database, HTTP or recipes.

pub mod backbone;
pub mod kernel;
pub mod layer;
pub mod learn;
pub mod tape;
pub mod trace;
pub mod weights;

pub use backbone::architecture::Architecture;
pub use backbone::encoder::Encoder;
pub use kernel::{gemm, ops};
pub use layer::{
    attention, batch_norm, conv, conv_norm, dropout, gelu, layer_norm, lora, pool, upsample,
};
pub use learn::{loss, optim};
pub use tape::gradients::Gradients;
pub use tape::params::{Params, Tensors};
pub use tape::pass::{Features, Mode};

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
