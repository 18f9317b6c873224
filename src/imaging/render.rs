//! A picture as an 8-bit PNG for people to look at.

use std::io::Cursor;

use image::{ExtendedColorType, ImageFormat};

use super::ImagingError;
use super::picture::Picture;
use super::prepare::resize;
use crate::domain::image::Window;

/// Renders a picture through a window; larger ones are scaled down to `max_side`.
pub fn render_png(
    picture: &Picture,
    window: Option<Window>,
    max_side: Option<u32>,
) -> Result<Vec<u8>, ImagingError> {
    let (width, height) = fit(picture.width, picture.height, max_side);
    let planes: Vec<Vec<f32>> = picture
        .planes(window)
        .into_iter()
        .map(|plane| resize(plane, picture.width, picture.height, width, height))
        .collect::<Result<_, _>>()?;
    let pixels = width as usize * height as usize;
    let byte = |value: f32| (value * 255.0).round().clamp(0.0, 255.0) as u8;
    let bytes: Vec<u8> =
        (0..pixels).flat_map(|at| planes.iter().map(move |plane| byte(plane[at]))).collect();
    let colour = if planes.len() == 3 { ExtendedColorType::Rgb8 } else { ExtendedColorType::L8 };
    let mut png = Cursor::new(Vec::new());
    image::write_buffer_with_format(&mut png, &bytes, width, height, colour, ImageFormat::Png)
        .map_err(|error| ImagingError::Resize(error.to_string()))?;
    Ok(png.into_inner())
}

fn fit(width: u32, height: u32, max_side: Option<u32>) -> (u32, u32) {
    let longest = width.max(height);
    match max_side {
        Some(side) if longest > side => {
            let scaled = |length: u32| {
                (u64::from(length) * u64::from(side) / u64::from(longest)).max(1) as u32
            };
            (scaled(width), scaled(height))
        }
        _ => (width, height),
    }
}
