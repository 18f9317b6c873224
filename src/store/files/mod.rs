//! The blobs: their content, which rows name them, whose they are, and what sweeps and checks them.

pub mod blobs;
pub mod check;
pub(in crate::store) mod named;
pub mod owner;
pub mod sweep;
mod whole;
