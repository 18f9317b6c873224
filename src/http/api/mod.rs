//! The product's own API: a file for each resource, its handlers and the shapes that they speak.

pub mod architectures;
pub mod artifacts;
pub mod backbones;
pub mod datasets;
pub mod estimates;
pub mod events;
pub mod form;
pub mod health;
pub mod images;
pub mod keys;
pub mod matched_pairs;
pub mod models;
pub mod predict;
pub mod replays;
pub mod runs;
pub mod uploads;
pub mod versions;
