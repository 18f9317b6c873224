//! Integration tests: the product seen from outside, one file an area.

mod layering;
mod split;
