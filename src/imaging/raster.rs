//! PNG and JPEG into pictures, at the depth that the file has.

use std::borrow::Cow;

use image::{DynamicImage, ImageFormat};

use super::ImagingError;
use super::codec::pixels;
use super::picture::{Picture, Samples};
use super::segments::strip_jpeg;
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
            (ImageFormat::Jpeg, Cow::Owned(strip_jpeg(bytes, limits)?.0))
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
