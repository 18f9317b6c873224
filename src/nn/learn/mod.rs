//! The movers of parameters: losses, and optimisers with their schedules.

pub mod loss;
pub mod optim;
