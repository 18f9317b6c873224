//! The decoders of PNG and JPEG within the limits, their errors in our words.

use std::io::Cursor;

use image::{DynamicImage, ImageFormat, ImageReader};

use super::ImagingError;
use crate::config::Limits;

/// The error in our words: a decoder's own may quote the file.
fn why(error: &image::ImageError) -> &'static str {
    match error {
        image::ImageError::Limits(_) => {
            "it needs more memory than allowed (LVMED_LIMIT_DECODED_BYTES)"
        }
        image::ImageError::Unsupported(_) => "it is of a kind that is not decoded here",
        image::ImageError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            "it is cut short"
        }
        _ => "its data is damaged",
    }
}

/// Decodes the pixels of a file whose size is within the limits.
pub(super) fn pixels(
    bytes: &[u8],
    format: ImageFormat,
    limits: &Limits,
) -> Result<DynamicImage, ImagingError> {
    let name = if format == ImageFormat::Png { "PNG" } else { "JPEG" };
    let failed = |error: image::ImageError| ImagingError::Raster {
        format: name,
        reason: why(&error).to_owned(),
    };
    let size =
        ImageReader::with_format(Cursor::new(bytes), format).into_dimensions().map_err(failed)?;
    check_size(size, limits)?;
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut allowed = image::Limits::default();
    allowed.max_alloc = Some(limits.decoded_bytes);
    reader.limits(allowed);
    reader.decode().map_err(failed)
}

/// Compares the size that a file says it has with the limit.
pub(super) fn check_size((width, height): (u32, u32), limits: &Limits) -> Result<(), ImagingError> {
    let (width, height) = (u64::from(width), u64::from(height));
    if width * height > limits.pixels {
        return Err(ImagingError::TooManyPixels { width, height, max: limits.pixels });
    }
    Ok(())
}
