//! PNG and JPEG into pictures, at the depth that the file has.

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
    if format == Format::Jpeg {
        // The decoder fills in what a file that was cut short lacks; this walk does not.
        super::segments::strip_jpeg(bytes)?;
    }
    let (format, name) = match format {
        Format::Png => (ImageFormat::Png, "PNG"),
        Format::Jpeg | Format::Dicom => (ImageFormat::Jpeg, "JPEG"),
    };
    let failed = |error: image::ImageError| ImagingError::Raster {
        format: name,
        reason: why(&error).to_owned(),
    };
    let (width, height) =
        ImageReader::with_format(Cursor::new(bytes), format).into_dimensions().map_err(failed)?;
    if u64::from(width) * u64::from(height) > limits.pixels {
        let (width, height) = (u64::from(width), u64::from(height));
        return Err(ImagingError::TooManyPixels { width, height, max: limits.pixels });
    }
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut allowed = image::Limits::default();
    allowed.max_alloc = Some(limits.decoded_bytes);
    reader.limits(allowed);
    let decoded = reader.decode().map_err(failed)?;
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
