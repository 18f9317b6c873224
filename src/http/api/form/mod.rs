//! Bodies that are more than one JSON value: forms with files, and recipes by their kind.

pub mod backbone;
pub mod pictures;
pub mod recipe;
