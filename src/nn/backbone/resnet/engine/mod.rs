//! Residual networks on the CPU at the rate at which it multiplies matrices.
//!
//! Activations lie channels last, so that a 1x1 convolution is one matrix product, a 3x3 one of
//! stride 1 thirty-six smaller products (Winograd's F(4x4, 3x3), Lavin and Gray 2016) and everything
//! else works on whole vectors of channels. Only the outputs of convolutions and of blocks are
//! stored: normalised values and gradients of convolutions are made where a product reads them.
//! Sums run in an order that the sizes alone decide, so every bit is the same on any number of
//! threads.

#![expect(clippy::inline_always, reason = "only what is inlined is compiled for wide vectors")]
#![expect(clippy::needless_range_loop, reason = "loops over indices are what becomes vectors")]

mod block;
pub(in crate::nn) mod buffers;
mod conv;
mod join;
mod layer;
mod layout;
pub mod measure;
mod pool;
mod rows;
mod simd;
pub(in crate::nn) mod stretch;
mod sums;
