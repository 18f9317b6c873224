//! Freezing a dataset into a version that runs learn from.

mod draft;
mod error;
mod freezer;

pub use draft::Draw;
pub use error::FreezeError;
pub use freezer::Freezer;
