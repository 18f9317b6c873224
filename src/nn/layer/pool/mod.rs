//! Pooling with exact gradients.

mod average;
mod max;

pub use average::{Border, Window, average_pool2d};
pub use max::max_pool2d;
