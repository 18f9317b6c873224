//! The traces that a computation leaves behind: parameters by name, their gradients, and how a batch
//! went through.

pub mod gradients;
pub mod params;
pub mod pass;
pub(in crate::nn) mod sink;
