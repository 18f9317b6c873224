//! Solvers of the matching problem against worked examples, brute force and each other.

mod examples;
mod instances;
mod properties;
