//! Compressed pictures by their own headers, read before any decoder believes them, and without
//! whatever does not make up the picture.
//!
//! Each coding has a file here that answers twice: `facts`, which costs nothing, and the data as they
//! may be decoded and stored. What is decoded is what was read here, so the two cannot disagree.

mod bits;
mod entropy;
pub(super) mod jpeg;
pub(super) mod jpeg2000;
mod jpeg_frame;
pub(super) mod jpegxl;

use super::ImagingError;
use super::dicom::Header;

/// The facts that compressed data tell of their picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) components: u32,
    /// Bits of a sample.
    pub(super) precision: u32,
}

impl Facts {
    /// Compares them with the tags. The data decide how they are decoded (PS3.5 8.2.1); what the tags
    /// cannot be brought together with is refused. Wider samples than the values stored are usual:
    /// a 12-bit picture as 16-bit samples.
    pub(super) fn agree_with(&self, header: &Header) -> Result<(), ImagingError> {
        let Self { width, height, components, precision } = *self;
        let told = if (width, height) != (header.width, header.height) {
            let Header { width: columns, height: rows, .. } = header;
            format!("the compressed picture is {width}x{height}, the tags say {columns}x{rows}")
        } else if components != header.samples {
            let samples = header.samples;
            format!("the compressed picture has {components} component(s), the tags say {samples}")
        } else if precision > header.bits_allocated.max(8) {
            let allocated = header.bits_allocated;
            format!("the compressed samples have {precision} bits, the tags say {allocated}")
        } else {
            return Ok(());
        };
        Err(ImagingError::PixelData(told))
    }
}
