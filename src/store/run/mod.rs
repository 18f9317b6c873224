//! Rows of runs: the queue, their events, and what they keep on the way.

pub mod calibrations;
pub mod checkpoints;
pub mod events;
pub mod features;
pub mod matched_pairs;
pub mod queue;
pub mod runs;
