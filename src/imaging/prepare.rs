//! A picture into a network's input: brightness, size, channels, normalisation.

use fast_image_resize::images::TypedImage;
use fast_image_resize::pixels::F32;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};

use super::ImagingError;
use super::picture::Picture;
use crate::domain::Preprocessing;
use crate::domain::backbone::ChannelOrder;
use crate::domain::image::Window;

/// Prepares a picture: `3 * size * size` values, channel by channel, row by row.
///
/// Brightness comes from the window (the given one, else the recorded one, else the picture's
/// range), the picture is stretched to a square by antialiased bilinear filtering, grey is repeated
/// over the channels, and each channel is normalised as `(x − mean) / std`.
pub fn prepare(
    picture: &Picture,
    window: Option<Window>,
    preprocessing: &Preprocessing,
) -> Result<Vec<f32>, ImagingError> {
    Ok(normalise(&square(picture, window, preprocessing.size)?, preprocessing))
}

/// The first half of [`prepare`]: brightness in `[0, 1]`, stretched to a square. One plane of
/// `size * size` values for a grey picture, three (red, green, blue) for one in colour.
pub fn square(
    picture: &Picture,
    window: Option<Window>,
    size: u32,
) -> Result<Vec<Vec<f32>>, ImagingError> {
    let planes = picture.planes(window).into_iter();
    planes.map(|plane| resize(plane, picture.width, picture.height, size, size)).collect()
}

/// The second half of [`prepare`]: one or three planes of brightness into three normalised channels
/// in the network's order, one after another.
pub fn normalise(planes: &[Vec<f32>], preprocessing: &Preprocessing) -> Vec<f32> {
    let mut input = Vec::with_capacity(planes.first().map_or(0, |plane| 3 * plane.len()));
    for channel in 0..3 {
        let source = match preprocessing.channel_order {
            ChannelOrder::Rgb => channel,
            ChannelOrder::Bgr => 2 - channel,
        };
        let Some(plane) = planes.get(source).or(planes.first()) else { continue };
        let (mean, std) = (preprocessing.mean[channel], preprocessing.std[channel]);
        input.extend(plane.iter().map(|value| (value - mean) / std));
    }
    input
}

/// Resizes one plane by antialiased bilinear filtering, as PIL's `BILINEAR` does.
pub fn resize(
    plane: Vec<f32>,
    width: u32,
    height: u32,
    new_width: u32,
    new_height: u32,
) -> Result<Vec<f32>, ImagingError> {
    if (width, height) == (new_width, new_height) {
        return Ok(plane);
    }
    let failed = |error: &dyn std::fmt::Display| ImagingError::Resize(error.to_string());
    let pixels = plane.into_iter().map(F32::new).collect();
    let source = TypedImage::from_pixels(width, height, pixels).map_err(|error| failed(&error))?;
    let mut target = TypedImage::<F32>::new(new_width, new_height);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
    Resizer::new().resize_typed(&source, &mut target, &options).map_err(|error| failed(&error))?;
    Ok(target.pixels().iter().map(|pixel| pixel.0).collect())
}

#[cfg(test)]
mod tests {
    use super::{prepare, resize};
    use crate::domain::Preprocessing;
    use crate::domain::backbone::ChannelOrder;
    use crate::imaging::{Picture, Samples};

    #[test]
    fn halving_takes_the_triangle_filters_weights() {
        // The triangle filter of support 2 at the first output pixel: weights 3, 3, 1 over 7.
        let row: Vec<f32> = vec![0.0, 7.0, 14.0, 21.0, 28.0, 35.0, 42.0, 49.0];

        let half = resize(row, 8, 1, 4, 1).expect("resized");

        assert!((half[0] - (3.0 * 0.0 + 3.0 * 7.0 + 14.0) / 7.0).abs() < 1e-5, "{half:?}");
    }

    #[test]
    fn channels_are_normalised_in_the_order_of_the_network() {
        let picture = Picture {
            width: 32,
            height: 32,
            samples: Samples::Rgb([255, 0, 51].repeat(32 * 32)),
            range: (0.0, 255.0),
            window: None,
            modality: None,
        };
        let preprocessing = Preprocessing {
            size: 32,
            channel_order: ChannelOrder::Bgr,
            mean: [0.1, 0.2, 0.5],
            std: [0.5, 1.0, 0.25],
        };

        let input = prepare(&picture, None, &preprocessing).expect("prepared");

        assert_eq!(input.len(), 3 * 32 * 32);
        let expected = [(0.2 - 0.1) / 0.5, -0.2, (1.0 - 0.5) / 0.25];
        for (channel, expected) in expected.into_iter().enumerate() {
            assert!((input[channel * 1024] - expected).abs() < 1e-6);
        }
    }
}
