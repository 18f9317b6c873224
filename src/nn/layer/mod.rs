//! Layers with backward passes of their own, on any device where nothing else is said.

pub mod attention;
pub mod batch_norm;
pub mod conv;
pub mod conv_norm;
pub mod dropout;
pub mod gelu;
pub mod layer_norm;
pub mod linear;
pub mod lora;
pub(in crate::nn) mod patches;
pub mod pool;
pub mod upsample;
