//! Augmentation: how training pictures are varied, each change with its own chance and strength.
//!
//! The same settings serve every method and task; `training::data` carries them out. A change that
//! could turn one class into another (a mirrored heart, an upside-down lung) must stay off: see
//! [`Preset`] for what is safe in which kind of picture.

mod augment;
mod preset;

use serde::{Deserialize, Serialize};

pub use augment::Augment;
pub use preset::Preset;

/// How training pictures are varied. What is not given is off.
///
/// Changes of geometry come first, all in one resampling: mirroring, turning, rotation, crop. Then
/// blur, gamma, contrast, brightness, noise and cutout, on brightness between 0 and 1.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Augmentation {
    /// Chance of mirroring left to right.
    #[schema(minimum = 0.0, maximum = 1.0)]
    pub horizontal_flip: f64,
    /// Chance of mirroring top to bottom.
    #[schema(minimum = 0.0, maximum = 1.0)]
    pub vertical_flip: f64,
    /// Chance of turning by 90, 180 or 270 degrees, each as likely; loses no detail.
    #[schema(minimum = 0.0, maximum = 1.0)]
    pub quarter_turns: f64,
    /// Rotation by any angle.
    pub rotation: Rotation,
    /// A part of the picture, or more than it, scaled to its whole size.
    pub crop: Crop,
    /// What is seen beyond the border after a rotation or crop.
    pub border: Border,
    /// Brightness that is added: between -strength and strength.
    pub brightness: Change,
    /// Factor on the distance from the mean brightness: between 1 - strength and 1 + strength.
    pub contrast: Change,
    /// Exponent of the brightness: between 1 / (1 + strength) and 1 + strength.
    pub gamma: Change,
    /// Gaussian blur.
    pub blur: Blur,
    /// Gaussian noise.
    pub noise: Noise,
    /// A square that is painted over with the mean brightness of the picture.
    pub cutout: Cutout,
}

/// Rotation by any angle.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rotation {
    /// Chance of it.
    #[schema(minimum = 0.0, maximum = 1.0)]
    pub probability: f64,
    /// Largest angle in degrees, either way.
    #[schema(minimum = 0.0, maximum = 180.0)]
    pub degrees: f64,
}

/// A part of the picture, or more than it, scaled to its whole size.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Crop {
    /// Chance of it.
    #[schema(minimum = 0.0, maximum = 1.0)]
    pub probability: f64,
    /// Smallest area that is shown, as a share of the picture's.
    #[schema(minimum = 0.05, maximum = 2.0)]
    pub min_area: f64,
    /// Largest area that is shown; above 1 the picture shrinks within its border.
    #[schema(minimum = 0.05, maximum = 2.0)]
    pub max_area: f64,
    /// Largest ratio of the longer to the shorter side of the part; 1 keeps all proportions.
    #[schema(minimum = 1.0, maximum = 2.0)]
    pub max_aspect: f64,
}

impl Default for Crop {
    fn default() -> Self {
        Self { probability: 0.0, min_area: 1.0, max_area: 1.0, max_aspect: 1.0 }
    }
}

/// What is seen beyond the border of a picture.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Border {
    /// Nothing: black.
    #[default]
    Black,
    /// The outermost pixels, drawn out.
    Edge,
    /// The picture in a mirror.
    Mirror,
}

/// A change of brightness, contrast or gamma.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// Chance of it.
    #[schema(minimum = 0.0, maximum = 1.0)]
    pub probability: f64,
    /// Largest change.
    #[schema(minimum = 0.0, maximum = 0.9)]
    pub strength: f64,
}

/// Gaussian blur.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Blur {
    /// Chance of it.
    #[schema(minimum = 0.0, maximum = 1.0)]
    pub probability: f64,
    /// Largest standard deviation, as a share of the picture's side: 0.005 is about one pixel in 224.
    #[schema(minimum = 0.0, maximum = 0.05)]
    pub max_sigma: f64,
}

/// Gaussian noise, the same in every channel of a grey picture.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Noise {
    /// Chance of it.
    #[schema(minimum = 0.0, maximum = 1.0)]
    pub probability: f64,
    /// Largest standard deviation, in brightness from 0 to 1.
    #[schema(minimum = 0.0, maximum = 0.5)]
    pub max_std: f64,
}

/// A square that is painted over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Cutout {
    /// Chance of it.
    #[schema(minimum = 0.0, maximum = 1.0)]
    pub probability: f64,
    /// Largest side of the square, as a share of the picture's.
    #[schema(minimum = 0.0, maximum = 0.75)]
    pub max_side: f64,
}

/// A setting outside its range.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{pointer}: {value} is outside {low} to {high}")]
pub struct Violation {
    /// JSON pointer of the setting, from the augmentation's own object.
    pub pointer: &'static str,
    /// The value that was given.
    pub value: f64,
    /// The least that is allowed.
    pub low: f64,
    /// The most that is allowed.
    pub high: f64,
}

impl Augmentation {
    /// Checks the ranges; every violation is listed.
    pub fn validate(&self) -> Vec<Violation> {
        let (turn, crop) = (&self.rotation, &self.crop);
        let checks = [
            ("/horizontal_flip", self.horizontal_flip, 0.0, 1.0),
            ("/vertical_flip", self.vertical_flip, 0.0, 1.0),
            ("/quarter_turns", self.quarter_turns, 0.0, 1.0),
            ("/rotation/probability", turn.probability, 0.0, 1.0),
            ("/rotation/degrees", turn.degrees, 0.0, 180.0),
            ("/crop/probability", crop.probability, 0.0, 1.0),
            ("/crop/min_area", crop.min_area, 0.05, 2.0),
            ("/crop/max_area", crop.max_area, crop.min_area.clamp(0.05, 2.0), 2.0),
            ("/crop/max_aspect", crop.max_aspect, 1.0, 2.0),
            ("/brightness/probability", self.brightness.probability, 0.0, 1.0),
            ("/brightness/strength", self.brightness.strength, 0.0, 0.9),
            ("/contrast/probability", self.contrast.probability, 0.0, 1.0),
            ("/contrast/strength", self.contrast.strength, 0.0, 0.9),
            ("/gamma/probability", self.gamma.probability, 0.0, 1.0),
            ("/gamma/strength", self.gamma.strength, 0.0, 0.9),
            ("/blur/probability", self.blur.probability, 0.0, 1.0),
            ("/blur/max_sigma", self.blur.max_sigma, 0.0, 0.05),
            ("/noise/probability", self.noise.probability, 0.0, 1.0),
            ("/noise/max_std", self.noise.max_std, 0.0, 0.5),
            ("/cutout/probability", self.cutout.probability, 0.0, 1.0),
            ("/cutout/max_side", self.cutout.max_side, 0.0, 0.75),
        ];
        checks
            .into_iter()
            .filter(|(_, value, low, high)| !(low..=high).contains(&value))
            .map(|(pointer, value, low, high)| Violation { pointer, value, low, high })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Augmentation;

    #[test]
    fn every_setting_outside_its_range_is_named() {
        let mut settings = Augmentation { horizontal_flip: 1.5, ..Augmentation::default() };
        settings.rotation.degrees = f64::NAN;
        settings.crop.min_area = 0.8;
        settings.crop.max_area = 0.7;

        let pointers: Vec<_> = settings.validate().iter().map(|found| found.pointer).collect();

        assert_eq!(pointers, ["/horizontal_flip", "/rotation/degrees", "/crop/max_area"]);
        let first = &settings.validate()[0];
        assert_eq!(first.to_string(), "/horizontal_flip: 1.5 is outside 0 to 1");
    }
}
