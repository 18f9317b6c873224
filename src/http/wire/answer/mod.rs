//! Answers: their shapes, and the headers that say what is in them.

pub mod digest;
pub mod disposition;
pub mod etag;
pub mod shape;
