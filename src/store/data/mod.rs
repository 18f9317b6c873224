//! Rows of datasets, of their images and of their versions.

pub mod datasets;
pub mod images;
pub mod versions;
