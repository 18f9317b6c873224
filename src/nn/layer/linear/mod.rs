//! Linear layers: their tensors, their products on slices with backward passes, and the same composed.

pub(in crate::nn) mod composed;
pub(in crate::nn) mod parameters;
pub(in crate::nn) mod products;
