//! The worth of a model: metrics of its answers, with intervals that hold for few patients.

pub mod bootstrap;
pub mod evaluate;
pub mod interval;
pub(in crate::training) mod judged;
pub mod metrics;
pub mod normal;
pub mod student;
