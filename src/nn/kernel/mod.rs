//! Arithmetic on slices and tensors that layers are made of.

pub(in crate::nn) mod columns;
pub mod draw;
pub mod gemm;
pub(in crate::nn) mod lanes;
pub mod ops;
pub(in crate::nn) mod real;
pub(in crate::nn) mod views;
