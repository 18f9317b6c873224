//! Mirroring, turning, rotation and crop of a square picture in one bilinear resampling.

use crate::domain::augmentation::Border;

/// The place that each pixel of the new picture comes from: `x' = a x + b y + c` and likewise `y'`,
/// in pixels from the middle of the picture, `x` to the right and `y` down.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Affine {
    /// Coefficients of `x'`.
    pub x: [f64; 3],
    /// Coefficients of `y'`.
    pub y: [f64; 3],
}

impl Affine {
    /// Every pixel from where it is.
    pub const IDENTITY: Self = Self { x: [1.0, 0.0, 0.0], y: [0.0, 1.0, 0.0] };
    /// Mirrored left to right.
    pub const HORIZONTAL_FLIP: Self = Self { x: [-1.0, 0.0, 0.0], y: [0.0, 1.0, 0.0] };
    /// Mirrored top to bottom.
    pub const VERTICAL_FLIP: Self = Self { x: [1.0, 0.0, 0.0], y: [0.0, -1.0, 0.0] };

    /// A picture turned clockwise by any angle; multiples of 90 degrees are exact.
    pub fn rotation(degrees: f64) -> Self {
        let (sin, cos) = match degrees.rem_euclid(360.0) {
            0.0 => (0.0, 1.0),
            90.0 => (1.0, 0.0),
            180.0 => (0.0, -1.0),
            270.0 => (-1.0, 0.0),
            other => other.to_radians().sin_cos(),
        };
        Self { x: [cos, sin, 0.0], y: [-sin, cos, 0.0] }
    }

    /// The part of the picture that is `scale` times as wide and high, around `middle`.
    pub fn crop(scale: [f64; 2], middle: [f64; 2]) -> Self {
        Self { x: [scale[0], 0.0, middle[0]], y: [0.0, scale[1], middle[1]] }
    }

    /// This change of a picture and after it `next`, as one.
    #[must_use]
    pub fn then(self, next: Self) -> Self {
        // Coordinates run backwards: a pixel of the last picture is looked up in the one before.
        let row = |of: [f64; 3]| {
            [
                of[0] * next.x[0] + of[1] * next.y[0],
                of[0] * next.x[1] + of[1] * next.y[1],
                of[0] * next.x[2] + of[1] * next.y[2] + of[2],
            ]
        };
        Self { x: row(self.x), y: row(self.y) }
    }

    fn at(&self, x: f64, y: f64) -> (f64, f64) {
        let of = |row: &[f64; 3]| row[0] * x + row[1] * y + row[2];
        (of(&self.x), of(&self.y))
    }
}

/// Looks every pixel of planes of `size * size` up where `affine` says, between four pixels.
pub fn resample(
    planes: &[Vec<f32>],
    size: usize,
    affine: &Affine,
    border: Border,
) -> Vec<Vec<f32>> {
    let mut found: Vec<Vec<f32>> =
        planes.iter().map(|plane| Vec::with_capacity(plane.len())).collect();
    let middle = (size as f64 - 1.0) / 2.0;
    for row in 0..size {
        for column in 0..size {
            let (x, y) = affine.at(column as f64 - middle, row as f64 - middle);
            let (across, down) =
                (Pair::at(x + middle, size, border), Pair::at(y + middle, size, border));
            for (plane, found) in planes.iter().zip(&mut found) {
                let line = |row: usize| {
                    across.weights[0] * plane[row * size + across.pixels[0]]
                        + across.weights[1] * plane[row * size + across.pixels[1]]
                };
                found.push(
                    down.weights[0] * line(down.pixels[0]) + down.weights[1] * line(down.pixels[1]),
                );
            }
        }
    }
    found
}

/// The two pixels on a line that a place lies between, and what each counts.
struct Pair {
    pixels: [usize; 2],
    weights: [f32; 2],
}

impl Pair {
    fn at(place: f64, size: usize, border: Border) -> Self {
        let low = place.floor();
        let share = (place - low) as f32;
        let mut pair = Self { pixels: [0; 2], weights: [1.0 - share, share] };
        for (at, (pixel, weight)) in pair.pixels.iter_mut().zip(&mut pair.weights).enumerate() {
            match inside(low as i64 + at as i64, size as i64, border) {
                Some(found) => *pixel = found,
                None => *weight = 0.0,
            }
        }
        pair
    }
}

/// The pixel that is seen at a place of a line, which may lie beyond its ends.
fn inside(place: i64, size: i64, border: Border) -> Option<usize> {
    if (0..size).contains(&place) {
        return Some(place as usize);
    }
    match border {
        Border::Black => None,
        Border::Edge => Some(place.clamp(0, size - 1) as usize),
        Border::Mirror => {
            // The outermost pixel is not shown twice: … 2 1 [0 1 2 3] 2 1 0 …
            let period = 2 * (size - 1).max(1);
            let along = place.rem_euclid(period);
            Some(along.min(period - along) as usize)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Affine, resample};
    use crate::domain::augmentation::Border;

    const SIZE: usize = 9;

    fn noise() -> Vec<f32> {
        (0..SIZE * SIZE).map(|at| (at * 7919 % 101) as f32 / 101.0).collect()
    }

    fn changed(plane: &[f32], affine: Affine, border: Border) -> Vec<f32> {
        resample(&[plane.to_vec()], SIZE, &affine, border).remove(0)
    }

    /// A picture whose pixel at `(row, column)` is that of `from(row, column)` in the noise.
    fn moved(from: impl Fn(usize, usize) -> (usize, usize)) -> Vec<f32> {
        let noise = noise();
        let places = (0..SIZE * SIZE).map(|at| from(at / SIZE, at % SIZE));
        places.map(|(row, column)| noise[row * SIZE + column]).collect()
    }

    #[test]
    fn mirrors_and_quarter_turns_are_exact_permutations() {
        let last = SIZE - 1;
        let cases = [
            (Affine::IDENTITY, moved(|row, column| (row, column))),
            (Affine::HORIZONTAL_FLIP, moved(|row, column| (row, last - column))),
            (Affine::VERTICAL_FLIP, moved(|row, column| (last - row, column))),
            // Clockwise: the first row becomes the last column.
            (Affine::rotation(90.0), moved(|row, column| (last - column, row))),
            (Affine::rotation(-90.0), moved(|row, column| (column, last - row))),
            (Affine::rotation(540.0), moved(|row, column| (last - row, last - column))),
        ];
        for (affine, expected) in cases {
            assert_eq!(changed(&noise(), affine, Border::Black), expected, "{affine:?}");
        }
        // A quarter turn after a mirror image is the transposition.
        let transposed = Affine::rotation(-90.0).then(Affine::VERTICAL_FLIP);
        let expected = moved(|row, column| (column, row));
        assert_eq!(changed(&noise(), transposed, Border::Black), expected);
    }

    #[test]
    fn one_resampling_is_the_exact_steps_one_after_another() {
        let steps = [Affine::HORIZONTAL_FLIP, Affine::rotation(90.0), Affine::VERTICAL_FLIP];
        let one_by_one =
            steps.iter().fold(noise(), |plane, step| changed(&plane, *step, Border::Black));

        let at_once = steps.into_iter().fold(Affine::IDENTITY, Affine::then);

        assert_eq!(changed(&noise(), at_once, Border::Black), one_by_one);
    }

    /// Bilinear interpolation gives a linear ramp exactly, wherever it is looked up inside.
    #[test]
    fn a_ramp_is_found_wherever_an_oblique_change_looks() {
        let (ax, ay, b) = (0.03_f32, -0.05_f32, 0.5_f32);
        let middle = (SIZE as f32 - 1.0) / 2.0;
        let ramp = |x: f32, y: f32| ax * x + ay * y + b;
        let plane: Vec<f32> = (0..SIZE * SIZE)
            .map(|at| ramp((at % SIZE) as f32 - middle, (at / SIZE) as f32 - middle))
            .collect();
        for degrees in [17.0_f32, -33.0, 101.5, 179.0] {
            let affine = Affine::rotation(f64::from(degrees))
                .then(Affine::crop([0.6, 0.5], [0.7, -0.4]))
                .then(Affine::HORIZONTAL_FLIP);

            let found = changed(&plane, affine, Border::Black);

            let (sin, cos) = degrees.to_radians().sin_cos();
            for (at, value) in found.iter().enumerate() {
                // By hand, backwards: mirrored, cropped, rotated.
                let (x, y) = (middle - (at % SIZE) as f32, (at / SIZE) as f32 - middle);
                let (x, y) = (0.6 * x + 0.7, 0.5 * y - 0.4);
                let (x, y) = (cos * x + sin * y, -sin * x + cos * y);
                if x.abs() <= middle && y.abs() <= middle {
                    assert!((value - ramp(x, y)).abs() < 1e-5, "{degrees}: {at}");
                }
            }
        }
    }

    /// Every pixel weighed by `(1 − |Δx|)₊ (1 − |Δy|)₊`, beyond the border too, as far as it is seen.
    fn by_brute_force(plane: &[f32], affine: Affine, border: Border) -> Vec<f32> {
        let size = SIZE as i64;
        let pixel = |x: i64, y: i64| {
            let mirrored = |at: i64| {
                (0..)
                    .flat_map(|_| (0..size).chain((1..size - 1).rev()))
                    .nth(((at % (2 * size - 2) + 2 * size - 2) % (2 * size - 2)) as usize)
                    .expect("it goes on for ever")
            };
            let (x, y) = match border {
                Border::Black if !(0..size).contains(&x) || !(0..size).contains(&y) => return 0.0,
                Border::Black => (x, y),
                Border::Edge => (x.max(0).min(size - 1), y.max(0).min(size - 1)),
                Border::Mirror => (mirrored(x), mirrored(y)),
            };
            f64::from(plane[(y * size + x) as usize])
        };
        let middle = (SIZE as f64 - 1.0) / 2.0;
        let looked_up = |at: usize| {
            let (u, v) = ((at % SIZE) as f64 - middle, (at / SIZE) as f64 - middle);
            let x = affine.x[0] * u + affine.x[1] * v + affine.x[2] + middle;
            let y = affine.y[0] * u + affine.y[1] * v + affine.y[2] + middle;
            let mut sum = 0.0;
            for row in -2 * size..3 * size {
                for column in -2 * size..3 * size {
                    let across = (1.0 - (x - column as f64).abs()).max(0.0);
                    let down = (1.0 - (y - row as f64).abs()).max(0.0);
                    if across * down > 0.0 {
                        sum += across * down * pixel(column, row);
                    }
                }
            }
            sum as f32
        };
        (0..SIZE * SIZE).map(looked_up).collect()
    }

    #[test]
    fn oblique_changes_are_what_brute_force_finds_within_and_beyond_every_border() {
        for border in [Border::Black, Border::Edge, Border::Mirror] {
            for degrees in [12.0, -71.0, 160.0] {
                let affine = Affine::VERTICAL_FLIP
                    .then(Affine::rotation(degrees))
                    .then(Affine::crop([1.3, 1.1], [-2.2, 0.9]));

                let found = changed(&noise(), affine, border);

                let expected = by_brute_force(&noise(), affine, border);
                for (found, expected) in found.iter().zip(expected) {
                    assert!((found - expected).abs() < 1e-6, "{border:?} {degrees}");
                }
            }
        }
    }

    #[test]
    fn each_border_shows_what_it_says() {
        let one_row = |border| {
            let plane: Vec<f32> = (0..SIZE * SIZE).map(|at| (at % SIZE) as f32 + 1.0).collect();
            changed(&plane, Affine::crop([1.0, 1.0], [-3.0, 0.0]), border)[..6].to_vec()
        };

        assert_eq!(one_row(Border::Black), [0.0, 0.0, 0.0, 1.0, 2.0, 3.0]);
        assert_eq!(one_row(Border::Edge), [1.0, 1.0, 1.0, 1.0, 2.0, 3.0]);
        assert_eq!(one_row(Border::Mirror), [4.0, 3.0, 2.0, 1.0, 2.0, 3.0]);
    }
}
