//! The changes of one picture in one epoch: drawn first, as plain numbers, then carried out.

use rand::Rng;
use rand::rngs::StdRng;

use super::affine::{Affine, resample};
use super::tones::{self, Square};
use crate::domain::augmentation::{Augmentation, Border, Change};

/// Everything that happens to one picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Drawn {
    /// The map to the places that its pixels come from.
    pub affine: Affine,
    /// The filling beyond its border.
    pub border: Border,
    /// Standard deviation of the blur in pixels; 0 is none.
    pub sigma: f64,
    /// Exponent of the brightness; 1 is no change.
    pub gamma: f32,
    /// Factor on the contrast; 1 is no change.
    pub contrast: f32,
    /// Added brightness; 0 is no change.
    pub brightness: f32,
    /// Standard deviation of the noise; 0 is none.
    pub noise: f32,
    /// The square that is painted over.
    pub cutout: Option<Square>,
    /// The generator that the noise is drawn from.
    random: StdRng,
}

impl Drawn {
    /// Draws what happens to a picture of `size * size`.
    ///
    /// As many numbers are drawn whatever the settings, so that changing one leaves the others' draws
    /// as they were.
    pub fn draw(settings: &Augmentation, size: usize, mut random: StdRng) -> Self {
        let affine = geometry(settings, size, &mut random);
        let gamma = drawn(settings.gamma, &mut random);
        let contrast = drawn(settings.contrast, &mut random);
        let brightness = drawn(settings.brightness, &mut random);
        // 1 / (1 + s) to 1 + s, brightening as likely as darkening.
        let gamma_exponent = (gamma / settings.gamma.strength.max(f64::MIN_POSITIVE)
            * settings.gamma.strength.ln_1p())
        .exp();
        let mut amount = |probability: f64, most: f64| {
            let (chance, share): (f64, f64) = (random.random(), random.random());
            if chance < probability { share * most } else { 0.0 }
        };
        let sigma = amount(settings.blur.probability, settings.blur.max_sigma) * size as f64;
        let noise = amount(settings.noise.probability, settings.noise.max_std) as f32;
        let side = amount(settings.cutout.probability, settings.cutout.max_side) * size as f64;
        let side = (side.round() as usize).min(size);
        let mut place = || (random.random::<f64>() * (size - side + 1) as f64) as usize;
        let square = Square { left: place(), top: place(), side };
        Self {
            affine,
            border: settings.border,
            sigma,
            gamma: gamma_exponent as f32,
            contrast: (1.0 + contrast) as f32,
            brightness: brightness as f32,
            noise,
            cutout: (side > 0).then_some(square),
            random,
        }
    }

    /// Does it to the planes of a picture, brightness in `[0, 1]`, `size * size` values each.
    pub fn apply(mut self, mut planes: Vec<Vec<f32>>, size: usize) -> Vec<Vec<f32>> {
        if self.affine != Affine::IDENTITY {
            planes = resample(&planes, size, &self.affine, self.border);
        }
        // Below a fifth of a pixel the nearest neighbour weighs less than 4e-6.
        if self.sigma > 0.2 {
            planes = planes.iter().map(|plane| tones::blur(plane, size, self.sigma)).collect();
        }
        if self.gamma != 1.0 {
            tones::gamma(&mut planes, self.gamma);
        }
        if self.contrast != 1.0 {
            tones::contrast(&mut planes, self.contrast);
        }
        if self.brightness != 0.0 {
            tones::brightness(&mut planes, self.brightness);
        }
        if self.noise > 0.0 {
            tones::noise(&mut planes, self.noise, &mut self.random);
        }
        if let Some(square) = self.cutout {
            tones::cutout(&mut planes, size, square);
        }
        planes
    }
}

/// Mirroring, then quarter turns, rotation by any angle, and the crop, as one.
fn geometry(settings: &Augmentation, size: usize, random: &mut StdRng) -> Affine {
    let mut unit = || random.random::<f64>();
    let mut affine = Affine::IDENTITY;
    if unit() < settings.horizontal_flip {
        affine = affine.then(Affine::HORIZONTAL_FLIP);
    }
    if unit() < settings.vertical_flip {
        affine = affine.then(Affine::VERTICAL_FLIP);
    }
    let (chance, turns) = (unit(), 1.0 + (3.0 * unit()).floor());
    if chance < settings.quarter_turns {
        affine = affine.then(Affine::rotation(90.0 * turns));
    }
    let (chance, angle) = (unit(), (2.0 * unit() - 1.0) * settings.rotation.degrees);
    if chance < settings.rotation.probability {
        affine = affine.then(Affine::rotation(angle));
    }
    let crop = &settings.crop;
    let (chance, area, aspect, right, down) = (unit(), unit(), unit(), unit(), unit());
    if chance < crop.probability {
        let area = crop.min_area + area * (crop.max_area - crop.min_area);
        let aspect = ((2.0 * aspect - 1.0) * crop.max_aspect.ln()).exp();
        // A part of the picture stays within it, however long it is.
        let most = area.max(1.0).sqrt();
        let scale = [(area * aspect).sqrt().min(most), (area / aspect).sqrt().min(most)];
        let middle = |place: f64, scale: f64| (place - 0.5) * (1.0 - scale) * size as f64;
        affine =
            affine.then(Affine::crop(scale, [middle(right, scale[0]), middle(down, scale[1])]));
    }
    affine
}

/// A change between `-strength` and `strength`.
fn drawn(change: Change, random: &mut StdRng) -> f64 {
    let (chance, place): (f64, f64) = (random.random(), random.random());
    if chance < change.probability { (2.0 * place - 1.0) * change.strength } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::{Affine, Drawn};
    use crate::domain::augmentation::{
        Augmentation, Blur, Change, Crop, Cutout, Noise, Preset, Rotation,
    };
    use crate::training::data::generator;

    const SIZE: usize = 32;

    fn picture() -> Vec<Vec<f32>> {
        (0..3)
            .map(|of| (0..1024).map(|at| ((at + of) * 31 % 256) as f32 / 255.0).collect())
            .collect()
    }

    fn draws(settings: &Augmentation) -> Vec<Drawn> {
        let draw = |at| Drawn::draw(settings, SIZE, generator("augment", 1, 0, at));
        (0..2000).map(draw).collect()
    }

    #[test]
    fn settings_that_ask_for_nothing_change_nothing() {
        let whole = Crop { probability: 1.0, ..Crop::default() };
        let still = Augmentation {
            rotation: Rotation { probability: 1.0, degrees: 0.0 },
            crop: whole,
            ..Augmentation::default()
        };
        for settings in [Preset::None.settings(), still] {
            for drawn in draws(&settings).into_iter().take(20) {
                let changed = drawn.apply(picture(), SIZE);

                for (one, other) in changed.iter().flatten().zip(picture().iter().flatten()) {
                    assert!((one - other).abs() < 1e-6);
                }
            }
        }
    }

    #[test]
    fn draws_keep_to_their_ranges_and_chances() {
        let settings = Augmentation {
            brightness: Change { probability: 0.5, strength: 0.2 },
            contrast: Change { probability: 0.25, strength: 0.3 },
            gamma: Change { probability: 1.0, strength: 0.5 },
            blur: Blur { probability: 0.5, max_sigma: 0.05 },
            noise: Noise { probability: 0.5, max_std: 0.1 },
            cutout: Cutout { probability: 0.5, max_side: 0.5 },
            ..Augmentation::default()
        };
        let draws = draws(&settings);
        let share = |of: &dyn Fn(&Drawn) -> bool| {
            draws.iter().filter(|drawn| of(drawn)).count() as f64 / draws.len() as f64
        };

        // Five standard errors of a share of one half among 2000.
        let near = |found: f64, expected: f64| (found - expected).abs() < 0.056;
        assert!(near(share(&|drawn| drawn.brightness != 0.0), 0.5));
        assert!(near(share(&|drawn| drawn.contrast != 1.0), 0.25));
        assert!(near(share(&|drawn| drawn.gamma > 1.0), 0.5));
        assert!(near(share(&|drawn| drawn.sigma > 0.0), 0.5));
        assert!(near(share(&|drawn| drawn.noise > 0.05), 0.25));
        assert!(draws.iter().all(|drawn| drawn.brightness.abs() <= 0.2));
        assert!(draws.iter().all(|drawn| (0.7..=1.3).contains(&drawn.contrast)));
        assert!(draws.iter().all(|drawn| (1.0 / 1.5..=1.5).contains(&drawn.gamma)));
        assert!(draws.iter().all(|drawn| drawn.sigma <= 1.6 && drawn.noise <= 0.1));
        let squares: Vec<_> = draws.iter().filter_map(|drawn| drawn.cutout).collect();
        assert!(squares.iter().all(|square| square.side <= 16));
        assert!(squares.iter().all(|square| square.left.max(square.top) + square.side <= SIZE));
        assert!(squares.iter().any(|square| square.left + square.side == SIZE));
    }

    #[test]
    fn crops_stay_within_the_picture_until_more_than_all_of_it_is_asked_for() {
        let reach = |min_area, max_area| {
            let crop = Crop { probability: 1.0, min_area, max_area, max_aspect: 1.5 };
            let settings = Augmentation { crop, ..Augmentation::default() };
            let ends =
                draws(&settings).into_iter().flat_map(|drawn| [drawn.affine.x, drawn.affine.y]);
            // The outermost point that a row or column shows, in halves of the picture.
            ends.map(|row| row[0].abs().max(row[1].abs()) + row[2].abs() / 16.0).fold(0.0, f64::max)
        };

        assert!(reach(0.2, 1.0) <= 1.0 + 1e-12);
        assert!(reach(1.2, 1.5) > 1.1);
    }

    #[test]
    fn a_shrunken_picture_stays_whole() {
        let crop = Crop { probability: 1.0, min_area: 1.5, max_area: 2.0, max_aspect: 1.0 };
        for drawn in draws(&Augmentation { crop, ..Augmentation::default() }) {
            let Affine { x, y } = drawn.affine;
            for row in [[x[0], x[2]], [y[1], y[2]]] {
                assert!(row[0] - row[1].abs() / 16.0 >= 1.0 - 1e-12, "{row:?}");
            }
        }
    }

    #[test]
    fn every_symmetry_of_the_square_is_as_likely_where_there_is_no_orientation() {
        let mut settings = Preset::Histology.settings();
        (settings.rotation.probability, settings.crop.probability) = (0.0, 0.0);
        let mut counts = std::collections::BTreeMap::new();
        for drawn in draws(&settings) {
            let key =
                format!("{:?}", [drawn.affine.x, drawn.affine.y].map(|row| row.map(|x| x as i8)));
            *counts.entry(key).or_insert(0) += 1;
        }

        // 250 of each expected; five standard deviations are 74.
        assert_eq!(counts.len(), 8, "{counts:?}");
        assert!(counts.values().all(|count| (176..=324).contains(count)), "{counts:?}");
    }

    #[test]
    fn values_stay_between_black_and_white_and_depend_on_the_generator_alone() {
        for preset in Preset::ALL {
            for at in 0..20 {
                let drawn =
                    || Drawn::draw(&preset.settings(), SIZE, generator("augment", 4, 2, at));

                let changed = drawn().apply(picture(), SIZE);

                let is_inside = |value: &f32| (-1e-6..=1.0 + 1e-6).contains(value);
                assert!(changed.iter().flatten().all(is_inside), "{preset}");
                assert_eq!(changed, drawn().apply(picture(), SIZE), "{preset}");
            }
        }
    }

    #[test]
    fn a_grey_picture_is_changed_as_its_three_equal_channels_would_be() {
        let mut settings = Preset::Endoscopy.settings();
        settings.noise.probability = 0.0;
        let grey = picture().remove(0);
        for at in 0..20 {
            let drawn = || Drawn::draw(&settings, SIZE, generator("augment", 4, 2, at));

            let one = drawn().apply(vec![grey.clone()], SIZE).remove(0);

            for channel in drawn().apply(vec![grey.clone(); 3], SIZE) {
                let close = one.iter().zip(&channel).all(|(one, other)| (one - other).abs() < 1e-5);
                assert!(close, "{at}");
            }
        }
    }

    #[test]
    fn changing_one_setting_leaves_the_draws_of_the_others() {
        let before = Preset::Mri.settings();
        let mut after = before.clone();
        after.horizontal_flip = 0.0;
        after.rotation.probability = 0.0;

        for (before, after) in draws(&before).into_iter().zip(draws(&after)) {
            assert_eq!((before.gamma, before.noise), (after.gamma, after.noise));
            assert_eq!(before.random, after.random);
        }
    }
}
