//! A decoded picture in as few bytes as training needs.
//!
//! A prepared picture of 224 pixels takes 602 kB as `f32`; in compact form one in colour takes 151 kB,
//! a grey one 50 or 100 kB. Brightness is rounded to 1/255 where the file itself holds 8-bit values
//! that no window stretches, and to 1/65535 elsewhere. What is lost is at most half a step: 0.002 of
//! the brightness for 8-bit files, half of what their own rounding lost and less than their noise;
//! 0.000008 for all others. All pictures go through it, cached or not: training sees the same values.

use crate::imaging::{ImagingError, Picture, Samples, resize, square};

/// A picture as brightness: one plane of a grey picture, three of one in colour. A picture whose three
/// channels are equal is grey, however its file stores it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compact {
    width: u32,
    height: u32,
    /// Plane by plane, row by row.
    values: Values,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Values {
    /// 255 is white.
    Eight(Vec<u8>),
    /// 65535 is white.
    Sixteen(Vec<u16>),
}

/// A rectangle within a picture, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// First row.
    pub top: usize,
    /// First column.
    pub left: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

/// The facts that it takes to read a picture back from its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    width: u32,
    height: u32,
    is_sixteen: bool,
    pub(super) bytes: usize,
}

impl Compact {
    /// A decoded picture in its recorded window, stretched to a square of `side` pixels.
    pub fn of(picture: &Picture, side: u32) -> Result<Self, ImagingError> {
        Ok(Self::packed(picture, square(picture, None, side)?, (side, side)))
    }

    /// A decoded picture in its recorded window and its own shape, scaled down so that its shorter
    /// side has at most `side` pixels.
    pub fn within(picture: &Picture, side: u32) -> Result<Self, ImagingError> {
        let shorter = picture.width.min(picture.height).max(1);
        let scaled = |length: u32| {
            let length = u64::from(length) * u64::from(side) / u64::from(shorter);
            u32::try_from(length).unwrap_or(u32::MAX).max(1)
        };
        let own = (picture.width, picture.height);
        let size = if shorter > side { (scaled(own.0), scaled(own.1)) } else { own };
        let planes = picture.planes(None).into_iter();
        let planes = planes.map(|plane| resize(plane, own.0, own.1, size.0, size.1));
        Ok(Self::packed(picture, planes.collect::<Result<_, _>>()?, size))
    }

    fn packed(picture: &Picture, mut planes: Vec<Vec<f32>>, (width, height): (u32, u32)) -> Self {
        // Grey pictures are often stored as colour; equal channels stay equal under filtering.
        if planes.iter().all(|plane| *plane == planes[0]) {
            planes.truncate(1);
        }
        let all = planes.iter().flatten();
        // Filtering may leave [0, 1] by a rounding error; NaN becomes black.
        let values = if is_eight_bit(picture) {
            Values::Eight(all.map(|value| (value.clamp(0.0, 1.0) * 255.0).round() as u8).collect())
        } else {
            let steps = all.map(|value| (value.clamp(0.0, 1.0) * 65535.0).round() as u16);
            Values::Sixteen(steps.collect())
        };
        Self { width, height, values }
    }

    /// Width in pixels.
    pub fn width(&self) -> usize {
        self.width as usize
    }

    /// Height in pixels.
    pub fn height(&self) -> usize {
        self.height as usize
    }

    /// Whether there is anything to see: not all pixels are alike.
    pub fn has_contrast(&self) -> bool {
        fn differ<T: PartialEq>(values: &[T], length: usize) -> bool {
            values.chunks(length.max(1)).any(|plane| plane.iter().any(|value| *value != plane[0]))
        }
        let length = self.width() * self.height();
        match &self.values {
            Values::Eight(values) => differ(values, length),
            Values::Sixteen(values) => differ(values, length),
        }
    }

    /// Brightness in `[0, 1]` of a part of it, plane by plane: `height` rows from `top`, `width`
    /// columns from `left`, which must lie within.
    pub fn cut(&self, part: Part) -> Vec<Vec<f32>> {
        fn rows<T: Copy>(values: &[T], width: usize, part: Part, scale: f32) -> Vec<f32>
        where
            f32: From<T>,
        {
            let rows = values.chunks(width.max(1)).skip(part.top).take(part.height);
            let pixels = rows.flat_map(|row| &row[part.left..part.left + part.width]);
            pixels.map(|value| f32::from(*value) / scale).collect()
        }
        let (width, length) = (self.width(), self.width() * self.height());
        match &self.values {
            Values::Eight(values) => {
                values.chunks(length).map(|plane| rows(plane, width, part, 255.0)).collect()
            }
            Values::Sixteen(values) => {
                values.chunks(length).map(|plane| rows(plane, width, part, 65535.0)).collect()
            }
        }
    }

    /// Bytes that it takes.
    pub fn size_bytes(&self) -> usize {
        match &self.values {
            Values::Eight(values) => size_of_val(values.as_slice()),
            Values::Sixteen(values) => size_of_val(values.as_slice()),
        }
    }

    /// Brightness in `[0, 1]`: one plane of `width * height` values, or red, green and blue.
    pub fn planes(&self) -> Vec<Vec<f32>> {
        self.cut(Part { top: 0, left: 0, height: self.height(), width: self.width() })
    }

    pub(super) fn shape(&self) -> Shape {
        let is_sixteen = matches!(self.values, Values::Sixteen(_));
        let Self { width, height, .. } = *self;
        Shape { width, height, is_sixteen, bytes: self.size_bytes() }
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        match &self.values {
            Values::Eight(values) => values.clone(),
            Values::Sixteen(values) => {
                values.iter().flat_map(|value| value.to_le_bytes()).collect()
            }
        }
    }

    pub(super) fn from_bytes(shape: Shape, bytes: Vec<u8>) -> Self {
        let values = if shape.is_sixteen {
            let (pairs, _) = bytes.as_chunks();
            Values::Sixteen(pairs.iter().map(|pair| u16::from_le_bytes(*pair)).collect())
        } else {
            Values::Eight(bytes)
        };
        Self { width: shape.width, height: shape.height, values }
    }
}

/// Whether a picture holds 8-bit values and shows them as they are.
fn is_eight_bit(picture: &Picture) -> bool {
    match &picture.samples {
        Samples::Rgb(_) => true,
        Samples::Gray(values) => {
            let is_byte = |value: &f32| value.fract() == 0.0 && (0.0..=255.0).contains(value);
            picture.window.is_none() && picture.range == (0.0, 255.0) && values.iter().all(is_byte)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Compact, Part};
    use crate::domain::image::Window;
    use crate::imaging::{Picture, Samples, square};

    fn gray(side: u32, white: f32, window: Option<Window>) -> Picture {
        let value = |at: u32| ((at * 7919) % (white as u32 + 1)) as f32;
        Picture {
            width: side,
            height: side,
            samples: Samples::Gray((0..side * side).map(value).collect()),
            range: (0.0, white),
            window,
            modality: None,
        }
    }

    fn largest_error(picture: &Picture, side: u32) -> f32 {
        let compact = Compact::of(picture, side).expect("a picture").planes();
        let exact = square(picture, None, side).expect("a picture");
        let pairs = compact.iter().flatten().zip(exact.iter().flatten());
        pairs.map(|(one, other)| (one - other).abs()).fold(0.0, f32::max)
    }

    #[test]
    fn eight_bit_pictures_of_the_right_size_lose_nothing() {
        let colour = Picture {
            samples: Samples::Rgb((0..64 * 64 * 3).map(|at| (at * 31 % 256) as u8).collect()),
            ..gray(64, 255.0, None)
        };

        assert_eq!(largest_error(&gray(64, 255.0, None), 64), 0.0);
        assert_eq!(largest_error(&colour, 64), 0.0);
        assert_eq!(Compact::of(&gray(64, 255.0, None), 64).expect("one").size_bytes(), 64 * 64);
        assert_eq!(Compact::of(&colour, 64).expect("one").size_bytes(), 3 * 64 * 64);
    }

    #[test]
    fn grey_stored_as_colour_takes_one_plane_and_has_the_same_values() {
        let grey = gray(100, 255.0, None);
        let Samples::Gray(values) = &grey.samples else { unreachable!("it is grey") };
        let tripled: Vec<u8> = values.iter().flat_map(|value| [*value as u8; 3]).collect();
        let mut colour = Picture { samples: Samples::Rgb(tripled), ..grey.clone() };

        let compact = Compact::of(&colour, 64).expect("a picture");

        assert_eq!(compact, Compact::of(&grey, 64).expect("a picture"));
        let Samples::Rgb(values) = &mut colour.samples else { unreachable!("it is in colour") };
        values[1] ^= 255;
        assert_eq!(Compact::of(&colour, 64).expect("a picture").size_bytes(), 3 * 64 * 64);
    }

    #[test]
    fn rounding_loses_at_most_half_a_step() {
        let windowed = gray(100, 255.0, Some(Window { center: 90.0, width: 37.0 }));

        let eight = largest_error(&gray(100, 255.0, None), 64);
        let sixteen = largest_error(&gray(100, 65535.0, None), 64);
        let stretched = largest_error(&windowed, 64);

        assert!(eight > 0.0 && eight <= 0.5 / 255.0 + 1e-6, "{eight}");
        assert!(sixteen > 0.0 && sixteen <= 0.5 / 65535.0 + 1e-7, "{sixteen}");
        assert!(stretched > 0.0 && stretched <= 0.5 / 65535.0 + 1e-7, "{stretched}");
    }

    #[test]
    fn a_picture_in_its_own_shape_is_only_ever_made_smaller() {
        let wide = Picture {
            width: 96,
            height: 48,
            samples: Samples::Gray((0..96 * 48).map(|at| (at % 251) as f32).collect()),
            ..gray(1, 255.0, None)
        };
        let as_it_is = Compact::within(&wide, 64).expect("a picture");
        let smaller = Compact::within(&wide, 24).expect("a picture");

        assert_eq!((as_it_is.width(), as_it_is.height()), (96, 48));
        assert_eq!((smaller.width(), smaller.height()), (48, 24));
        let part = Part { top: 7, left: 90, height: 2, width: 3 };
        let expected =
            [7 * 96 + 90, 7 * 96 + 91, 7 * 96 + 92, 8 * 96 + 90, 8 * 96 + 91, 8 * 96 + 92]
                .map(|at| (at % 251) as f32 / 255.0);
        assert_eq!(as_it_is.cut(part), [expected]);
    }

    #[test]
    fn one_pixel_that_differs_is_something_to_see() {
        let mut flat = gray(8, 255.0, None);
        flat.samples = Samples::Gray(vec![7.0; 64]);
        assert!(!Compact::of(&flat, 8).expect("a picture").has_contrast());
        // Three flat channels that differ are a flat colour.
        flat.samples = Samples::Rgb([9, 8, 7].repeat(64));
        assert!(!Compact::of(&flat, 8).expect("a picture").has_contrast());
        flat.samples = Samples::Gray([vec![7.0; 63], vec![8.0]].concat());
        assert!(Compact::of(&flat, 8).expect("a picture").has_contrast());
    }

    #[test]
    fn what_is_read_back_is_what_was_written() {
        for white in [255.0, 4095.0] {
            let compact = Compact::of(&gray(50, white, None), 32).expect("a picture");

            let back = Compact::from_bytes(compact.shape(), compact.to_bytes());

            assert_eq!(back, compact);
            assert_eq!(compact.to_bytes().len(), compact.size_bytes());
        }
    }
}
