//! One view of a picture: drawn first, as plain numbers, then carried out.

use rand::Rng;
use rand::rngs::StdRng;

use super::colour::{self, Change};
use super::crops::{draw, geometry};
use crate::domain::pretrain::Views;
use crate::imaging::{ImagingError, resize};
use crate::training::data::{Compact, Part, blur};
use crate::training::objective::Crop;

/// Least and largest standard deviation of the blur, in pixels of a view of [`SIGMA_AT`].
const SIGMA: (f64, f64) = (0.1, 2.0);
const SIGMA_AT: f64 = 224.0;

/// The two sizes of views.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Size {
    /// One of the two that are compared.
    Large,
    /// A small crop beside them.
    Small,
}

/// Everything that happens to a picture on its way to a view.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Drawn {
    part: Part,
    flipped: bool,
    jitter: Option<[Change; 4]>,
    is_grey: bool,
    /// Standard deviation of the blur at [`SIGMA_AT`] pixels; 0 is none.
    sigma: f64,
}

impl Drawn {
    /// Draws a view of a picture of `width * height`.
    pub(super) fn draw(
        views: &Views,
        size: Size,
        picture: (usize, usize),
        random: &mut StdRng,
    ) -> Self {
        let area = match size {
            Size::Large => (views.min_area, views.max_area),
            Size::Small => (views.small_min_area, views.small_max_area),
        };
        let part = draw(picture, area, random);
        let mut happens = |chance: f64| random.random::<f64>() < chance;
        let (flipped, jitter) = (happens(views.flip), happens(views.jitter));
        let (is_grey, is_blurred) = (happens(views.grey), happens(views.blur));
        // Drawn whether used or not, so that a chance changes nothing but what it is the chance of.
        let sigma = SIGMA.0 + random.random::<f64>() * (SIGMA.1 - SIGMA.0);
        let changes = colour::draw(views.jitter_strength, random);
        Self {
            part,
            flipped,
            jitter: jitter.then_some(changes),
            is_grey,
            sigma: if is_blurred { sigma } else { 0.0 },
        }
    }

    /// The place where it was cut. Without `flip_positions` nothing is said of its mirroring.
    pub(super) fn crop(&self, views: &Views) -> Crop {
        geometry(self.part, self.flipped && views.flip_positions)
    }

    /// The view as planes of `side * side` brightness: cut, scaled by antialiased bilinear filtering,
    /// mirrored, its colours changed, blurred.
    pub(super) fn apply(
        &self,
        picture: &Compact,
        side: u32,
    ) -> Result<Vec<Vec<f32>>, ImagingError> {
        let (width, height) = (self.part.width as u32, self.part.height as u32);
        let cut = picture.cut(self.part).into_iter();
        let scaled = cut.map(|plane| resize(plane, width, height, side, side));
        let mut planes = scaled.collect::<Result<Vec<_>, _>>()?;
        // Filtering may leave [0, 1] by a rounding error.
        planes.iter_mut().flatten().for_each(|value| *value = value.clamp(0.0, 1.0));
        if self.flipped {
            let rows = planes.iter_mut().flat_map(|plane| plane.chunks_mut(side as usize));
            rows.for_each(<[f32]>::reverse);
        }
        for change in self.jitter.iter().flatten() {
            colour::apply(&mut planes, *change);
        }
        if self.is_grey {
            planes = colour::grey(planes);
        }
        let sigma = self.sigma * f64::from(side) / SIGMA_AT;
        // Below a fifth of a pixel the nearest neighbour weighs less than 4e-6.
        if sigma > 0.2 {
            planes = planes.iter().map(|plane| blur(plane, side as usize, sigma)).collect();
        }
        Ok(planes)
    }
}

#[cfg(test)]
mod tests {
    use super::{Drawn, Size};
    use crate::domain::pretrain::Views;
    use crate::imaging::{Picture, Samples};
    use crate::training::data::{Compact, generator};

    /// A picture whose brightness is its column.
    fn ramp() -> Compact {
        let picture = Picture {
            width: 200,
            height: 100,
            samples: Samples::Gray((0..200 * 100).map(|at| (at % 200) as f32).collect()),
            range: (0.0, 255.0),
            window: None,
            modality: None,
        };
        Compact::within(&picture, 200).expect("a picture")
    }

    fn plain() -> Views {
        Views { jitter: 0.0, grey: 0.0, blur: 0.0, ..Views::default() }
    }

    fn drawn(views: &Views, place: u64) -> Drawn {
        Drawn::draw(views, Size::Large, (200, 100), &mut generator("view", 1, 0, place))
    }

    #[test]
    fn a_view_shows_what_its_crop_says_mirrored_or_not() {
        let (views, side) = (plain(), 32_usize);
        let mut seen = [0; 2];
        for place in 0..20 {
            let drawn = drawn(&views, place);
            let crop = drawn.crop(&views);

            let planes = drawn.apply(&ramp(), 32).expect("a view");

            seen[usize::from(crop.flipped)] += 1;
            for column in 1..side - 1 {
                let at = if crop.flipped { side - 1 - column } else { column } as f32;
                // The middle of the cell, as positions of feature maps are told.
                let expected = (crop.left + (at + 0.5) * crop.width / 32.0 - 0.5) / 255.0;
                let found = planes[0][5 * side + column];
                assert!((found - expected).abs() < 4e-3, "{crop:?} {column}: {found} {expected}");
            }
        }
        assert!(seen[0] > 3 && seen[1] > 3, "{seen:?}");
    }

    #[test]
    fn positions_that_are_not_mirrored_say_so() {
        let (views, quirk) = (plain(), Views { flip_positions: false, ..plain() });
        let mirrored =
            (0..20).map(|place| drawn(&views, place)).find(|one| one.crop(&views).flipped);
        let mirrored = mirrored.expect("one of twenty is mirrored");

        assert!(!mirrored.crop(&quirk).flipped);
        assert_eq!(mirrored.crop(&quirk).left.to_bits(), mirrored.crop(&views).left.to_bits());
    }

    #[test]
    fn a_chance_changes_nothing_but_what_it_is_the_chance_of() {
        let other = Views { blur: 1.0, jitter: 1.0, ..plain() };
        for place in 0..20 {
            let (one, two) = (drawn(&plain(), place), drawn(&other, place));
            assert_eq!((one.part, one.flipped), (two.part, two.flipped));
            assert!(one.sigma == 0.0 && (0.1..2.0).contains(&two.sigma) && two.jitter.is_some());
        }
    }
}
