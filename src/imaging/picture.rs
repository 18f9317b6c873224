//! A decoded picture: values as the file means them, and the window that it asks for.

use crate::domain::image::Window;

/// One decoded 2-D picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Row by row from the top left.
    pub samples: Samples,
    /// The values that are black and white when no window applies.
    pub range: (f32, f32),
    /// The first window recorded in the file.
    pub window: Option<Window>,
    /// DICOM modality.
    pub modality: Option<String>,
}

/// The values of a picture.
#[derive(Debug, Clone, PartialEq)]
pub enum Samples {
    /// One value a pixel in the file's own units: Hounsfield units of a CT, 0 to 65535 of a 16-bit
    /// PNG. Low is dark: MONOCHROME1 has been inverted.
    Gray(Vec<f32>),
    /// Red, green and blue of each pixel, interleaved.
    Rgb(Vec<u8>),
}

impl Picture {
    /// Brightness of each pixel in `[0, 1]`, in one plane or in three (red, green, blue).
    ///
    /// `window` wins over the recorded one. Colour pictures have no window.
    pub fn planes(&self, window: Option<Window>) -> Vec<Vec<f32>> {
        match &self.samples {
            Samples::Gray(values) => {
                let map = Mapping::of(window.or(self.window), self.range);
                vec![values.iter().map(|value| map.brightness(*value)).collect()]
            }
            Samples::Rgb(values) => (0..3)
                .map(|channel| {
                    values.iter().skip(channel).step_by(3).map(|v| f32::from(*v) / 255.0).collect()
                })
                .collect(),
        }
    }
}

/// A linear map of values to brightness: `clamp(value * slope + offset, 0, 1)`.
#[derive(Debug, Clone, Copy)]
struct Mapping {
    slope: f64,
    offset: f64,
}

impl Mapping {
    fn of(window: Option<Window>, (low, high): (f32, f32)) -> Self {
        match window {
            // PS3.3 C.11.2.1.2.1: y = ((x - (c - 0.5)) / (w - 1) + 0.5), and a step when w = 1.
            Some(Window { center, width }) if width >= 1.0 => {
                let slope = 1.0 / (width - 1.0).max(1e-6);
                Self { slope, offset: 0.5 - (center - 0.5) * slope }
            }
            // A narrower window only occurs on real-valued data, where LINEAR_EXACT is meant.
            Some(Window { center, width }) => {
                let slope = 1.0 / width.max(1e-12);
                Self { slope, offset: 0.5 - center * slope }
            }
            None => {
                let (low, high) = (f64::from(low), f64::from(high));
                let slope = if high > low { 1.0 / (high - low) } else { 0.0 };
                Self { slope, offset: -low * slope }
            }
        }
    }

    fn brightness(self, value: f32) -> f32 {
        (f64::from(value) * self.slope + self.offset).clamp(0.0, 1.0) as f32
    }
}

/// The 0.5 and 99.5 percentiles: black and white of a picture without a window.
pub(super) fn robust_range(values: &[f32]) -> (f32, f32) {
    let mut sorted: Vec<f32> = values.iter().copied().filter(|value| value.is_finite()).collect();
    if sorted.is_empty() {
        return (0.0, 1.0);
    }
    let mut at = |share: f64| {
        let rank = ((sorted.len() - 1) as f64 * share).round() as usize;
        *sorted.select_nth_unstable_by(rank, f32::total_cmp).1
    };
    let (low, high) = (at(0.005), at(0.995));
    if high > low { (low, high) } else { (at(0.0), at(1.0)) }
}

#[cfg(test)]
mod tests {
    use super::{Picture, Samples, robust_range};
    use crate::domain::image::Window;

    fn gray(values: Vec<f32>) -> Picture {
        Picture {
            width: values.len() as u32,
            height: 1,
            samples: Samples::Gray(values),
            range: (0.0, 255.0),
            window: None,
            modality: None,
        }
    }

    #[test]
    fn the_standards_window_example_maps_to_its_published_values() {
        // PS3.3 C.11.2.1.2.1, the note: c = 2048, w = 4096 maps 0..4095 onto the whole range.
        let picture = gray(vec![0.0, 4095.0, 2047.5]);

        let planes = picture.planes(Some(Window { center: 2048.0, width: 4096.0 }));

        assert_eq!(planes, [[0.0, 1.0, 0.5]]);
    }

    #[test]
    fn a_window_of_width_one_is_a_threshold() {
        let planes = gray(vec![99.0, 100.0]).planes(Some(Window { center: 100.0, width: 1.0 }));

        assert_eq!(planes, [[0.0, 1.0]]);
    }

    #[test]
    fn a_constant_picture_is_black_and_never_nan() {
        let mut picture = gray(vec![7.0; 4]);
        picture.range = robust_range(&[7.0; 4]);

        assert_eq!(picture.planes(None), [[0.0; 4]]);
    }

    #[test]
    fn one_hot_pixel_does_not_darken_the_rest() {
        let mut values: Vec<f32> = (0..1000).map(|value| value as f32).collect();
        values[999] = 1e9;

        assert_eq!(robust_range(&values), (5.0, 994.0));
    }
}
