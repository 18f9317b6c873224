//! Pixels of DICOM files: as they lie in a file, as sample values, and as they are stored.

pub(super) mod data;
mod rle;
pub(super) mod stored;
pub(super) mod table;
pub(super) mod values;
