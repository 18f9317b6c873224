//! PNG and JPEG into pictures, at the depth that the file has.

use std::borrow::Cow;
use std::io::Cursor;

use image::{DynamicImage, ImageFormat, ImageReader};

use super::ImagingError;
use super::picture::{Picture, Samples};
use crate::config::Limits;
use crate::domain::image::Format;

/// Decodes a PNG or JPEG. Alpha is ignored; 16-bit grey keeps its depth.
pub(super) fn decode(
    bytes: &[u8],
    format: Format,
    limits: &Limits,
) -> Result<Picture, ImagingError> {
    let (format, bytes) = match format {
        Format::Png => (ImageFormat::Png, Cow::Borrowed(bytes)),
        // The decoder fills in what a file that was cut short lacks; what comes from here is whole.
        Format::Jpeg | Format::Dicom => {
            (ImageFormat::Jpeg, Cow::Owned(super::segments::strip_jpeg(bytes, limits)?.0))
        }
    };
    let decoded = pixels(&bytes, format, limits)?;
    let (width, height) = (decoded.width(), decoded.height());
    let (samples, white) = match decoded {
        DynamicImage::ImageLuma8(_) | DynamicImage::ImageLumaA8(_) => {
            let values = decoded.to_luma8().into_raw();
            (Samples::Gray(values.into_iter().map(f32::from).collect()), 255.0)
        }
        DynamicImage::ImageLuma16(_) | DynamicImage::ImageLumaA16(_) => {
            let values = decoded.to_luma16().into_raw();
            (Samples::Gray(values.into_iter().map(f32::from).collect()), 65535.0)
        }
        colour => (Samples::Rgb(colour.to_rgb8().into_raw()), 255.0),
    };
    Ok(Picture { width, height, samples, range: (0.0, white), window: None, modality: None })
}

/// What is wrong in our words: a decoder's own may quote the file.
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
