//! The place where a view is cut out of its picture: a random area and shape, as torchvision draws
//! them.

use rand::Rng;
use rand::rngs::StdRng;

use crate::training::data::Part;
use crate::training::objective::Crop;

/// The least and the largest width over height.
const ASPECT: (f64, f64) = (3.0 / 4.0, 4.0 / 3.0);
/// Draws that may fall outside of the picture before its middle is taken.
const TRIES: usize = 10;

/// Draws a part of a picture of `width * height`: its share of the area uniform between `area`, the
/// logarithm of its aspect uniform between 3/4 and 4/3, anywhere within. A long narrow picture into
/// which ten draws do not fit gives the largest part of an allowed aspect in its middle.
pub(super) fn draw((width, height): (usize, usize), area: (f64, f64), random: &mut StdRng) -> Part {
    let (least, most) = (ASPECT.0.ln(), ASPECT.1.ln());
    for _ in 0..TRIES {
        let share = area.0 + random.random::<f64>() * (area.1 - area.0);
        let aspect = (least + random.random::<f64>() * (most - least)).exp();
        let pixels = share * width as f64 * height as f64;
        let columns = ((pixels * aspect).sqrt().round() as usize).max(1);
        let rows = ((pixels / aspect).sqrt().round() as usize).max(1);
        let place = (random.random::<f64>(), random.random::<f64>());
        if columns <= width && rows <= height {
            let at = |place: f64, room: usize| (place * (room + 1) as f64) as usize;
            let (top, left) = (at(place.0, height - rows), at(place.1, width - columns));
            return Part { top, left, height: rows, width: columns };
        }
    }
    middle(width, height)
}

/// The largest part in the middle whose aspect is allowed.
fn middle(width: usize, height: usize) -> Part {
    let aspect = width as f64 / height.max(1) as f64;
    let (mut columns, mut rows) = (width, height);
    if aspect < ASPECT.0 {
        rows = ((width as f64 / ASPECT.0).round() as usize).clamp(1, height);
    } else if aspect > ASPECT.1 {
        columns = ((height as f64 * ASPECT.1).round() as usize).clamp(1, width);
    }
    Part { top: (height - rows) / 2, left: (width - columns) / 2, height: rows, width: columns }
}

/// The part as an objective knows it.
pub(super) fn geometry(part: Part, flipped: bool) -> Crop {
    Crop {
        top: part.top as f32,
        left: part.left as f32,
        height: part.height as f32,
        width: part.width as f32,
        flipped,
    }
}

#[cfg(test)]
mod tests {
    use super::{draw, middle};
    use crate::training::data::generator;

    #[test]
    fn crops_lie_within_and_have_the_area_and_the_shape_that_was_asked_for() {
        let (mut smallest, mut largest) = (f64::MAX, 0.0_f64);
        for place in 0..2000 {
            let part = draw((300, 200), (0.4, 1.0), &mut generator("crop", 1, 0, place));

            assert!(part.left + part.width <= 300 && part.top + part.height <= 200, "{part:?}");
            let share = (part.width * part.height) as f64 / 60_000.0;
            let aspect = part.width as f64 / part.height as f64;
            assert!((0.74..=1.35).contains(&aspect), "{part:?}");
            (smallest, largest) = (smallest.min(share), largest.max(share));
        }
        // 200 rows and an aspect of 4/3 are 89 % of the picture.
        assert!((0.39..0.42).contains(&smallest) && (0.85..0.9).contains(&largest));
    }

    #[test]
    fn what_no_draw_fits_gives_its_middle() {
        let part = draw((1000, 10), (0.9, 1.0), &mut generator("crop", 1, 0, 0));

        assert_eq!(part, middle(1000, 10));
        assert_eq!((part.left, part.width, part.top, part.height), (493, 13, 0, 10));
        let single = draw((1, 1), (0.1, 0.1), &mut generator("crop", 1, 0, 0));
        assert_eq!((single.width, single.height), (1, 1));
    }
}
