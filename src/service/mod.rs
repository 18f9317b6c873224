//! The work of the product, whatever protocol asks for it: import, intake, freezing, runs,
//! predictions.
//!
//! Nothing here knows HTTP. Each part is a small struct of what it needs and an error whose variants
//! are what a caller could act on; `http` and the command line put both into their own words.

pub mod freeze;
pub mod import;
pub mod intake;
pub mod predict;
pub mod submit;
pub mod violation;
