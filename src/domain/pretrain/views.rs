//! The making of two views of one image, and of small crops of it.

use serde::{Deserialize, Serialize};

use crate::domain::augmentation::Preset;
use crate::domain::results::backbone::{Architecture, step_of};
use crate::domain::training::{BadSetting, outside};

/// How views are made of an image: a random crop scaled to the input size, then the changes of
/// LVM-Med, section 4.1: mirroring, colour jitter, blur. Sizes and areas are those of VICRegL's multi-crop
/// as LVM-Med uses it; the rest follows from the kind of pictures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Views {
    /// The kind of pictures, which decides what is left out of mirroring, colours and blur: mirrored only
    /// where a side means nothing, not blurred where a finding is a few pixels wide, colours changed
    /// little where they are calibrated. A request that names none gets those of `general`, unless its
    /// objective asks for the paper's settings; the defaults below are those of `general`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preset: Option<Preset>,
    /// Side of the two views in pixels, a multiple of what the architecture asks for (32, of DINOv2 14); the backbone's input size when absent.
    #[schema(minimum = 32, maximum = 1024)]
    pub size: Option<u32>,
    /// Smallest area of a view, as a share of the image's.
    #[schema(minimum = 1e-3, maximum = 1.0)]
    pub min_area: f64,
    /// Largest area of a view, as a share of the image's.
    #[schema(minimum = 1e-3, maximum = 1.0)]
    pub max_area: f64,
    /// Small crops beside the two views.
    #[schema(maximum = 8)]
    pub small_crops: u32,
    /// Side of the small crops in pixels, a multiple as `size` is.
    #[schema(minimum = 32, maximum = 1024)]
    pub small_size: u32,
    /// Smallest area of a small crop.
    #[schema(minimum = 1e-3, maximum = 1.0)]
    pub small_min_area: f64,
    /// Largest area of a small crop.
    #[schema(minimum = 1e-3, maximum = 1.0)]
    pub small_max_area: f64,
    /// Chance of mirroring a view left to right.
    #[schema(minimum = 0.0, maximum = 1.0, default = 0.0)]
    pub flip: f64,
    /// Chance of the colour jitter.
    #[schema(minimum = 0.0, maximum = 1.0)]
    pub jitter: f64,
    /// Largest change of brightness, contrast and saturation by the jitter: factors between
    /// `1 - strength` and `1 + strength`; the hue turns by a quarter of it at most.
    #[schema(minimum = 0.0, maximum = 1.0)]
    pub jitter_strength: f64,
    /// Chance that a view loses its colours.
    #[schema(minimum = 0.0, maximum = 1.0)]
    pub grey: f64,
    /// Chance of a Gaussian blur with a standard deviation of 0.1 to 2 pixels (at 224 pixels).
    #[schema(minimum = 0.0, maximum = 1.0)]
    pub blur: f64,
    /// Whether positions in a mirrored crop are mirrored with it. Off, they are those of the crop as
    /// it was before, as the authors' code has it, and local matching pairs the wrong cells.
    pub flip_positions: bool,
}

impl Default for Views {
    fn default() -> Self {
        Self {
            preset: None,
            size: None,
            min_area: 0.4,
            max_area: 1.0,
            small_crops: 0,
            small_size: 96,
            small_min_area: 0.08,
            small_max_area: 0.4,
            flip: 0.5,
            jitter: 0.8,
            jitter_strength: 0.8,
            grey: 0.2,
            blur: 0.5,
            flip_positions: true,
        }
    }
}

impl Views {
    /// The paper's views without what would change a finding in one kind of pictures, as their
    /// augmentation has it ([`Preset::settings`]): mirrored only where a side means nothing, blurred only
    /// where no finding is a few pixels wide, and colours changed little where they are calibrated.
    pub fn of(preset: Preset) -> Self {
        let settings = preset.settings();
        let paper = Self { preset: Some(preset), ..Self::default() };
        let paper = Self { flip: settings.horizontal_flip, ..paper };
        match preset {
            Preset::None => Self { jitter: 0.0, grey: 0.0, blur: 0.0, ..paper },
            Preset::ChestXray | Preset::Fundus => Self { blur: 0.0, ..paper },
            // Hounsfield units through a window: what is brighter is denser.
            Preset::Ct => Self { jitter_strength: 0.3, ..paper },
            Preset::Mri
            | Preset::Ultrasound
            | Preset::Histology
            | Preset::Dermoscopy
            | Preset::Endoscopy
            | Preset::General => paper,
        }
    }

    /// Sides that do not fit an architecture; that fit none as long as it is not known.
    pub fn misfits(&self, architecture: Option<Architecture>) -> Vec<BadSetting> {
        let first = self.size.map(|size| ("/views/size", size));
        let sides = first.into_iter().chain([("/views/small_size", self.small_size)]);
        sides
            .filter_map(|(pointer, side)| {
                // Small crops that are not made fit everywhere.
                let is_made = pointer != "/views/small_size" || self.small_crops > 0;
                let step = step_of(side, architecture.filter(|_| is_made));
                let fits = (32..=1024).contains(&side) && side.is_multiple_of(step);
                (!fits).then(|| BadSetting::DoesNotFit {
                    pointer: pointer.to_owned(),
                    detail: format!("{side} is no multiple of {step} between 32 and 1024"),
                })
            })
            .collect()
    }

    pub(super) fn validate(&self) -> Vec<BadSetting> {
        const LEAST: f64 = 1e-3;
        let range = "0.001 to 1";
        let mut wrong = outside(&[
            ("/views/min_area", self.min_area, LEAST, 1.0, range),
            ("/views/max_area", self.max_area, LEAST, 1.0, range),
            ("/views/small_min_area", self.small_min_area, LEAST, 1.0, range),
            ("/views/small_max_area", self.small_max_area, LEAST, 1.0, range),
            ("/views/small_crops", f64::from(self.small_crops), 0.0, 8.0, "0 to 8"),
            ("/views/flip", self.flip, 0.0, 1.0, "0 to 1"),
            ("/views/jitter", self.jitter, 0.0, 1.0, "0 to 1"),
            ("/views/jitter_strength", self.jitter_strength, 0.0, 1.0, "0 to 1"),
            ("/views/grey", self.grey, 0.0, 1.0, "0 to 1"),
            ("/views/blur", self.blur, 0.0, 1.0, "0 to 1"),
        ]);
        wrong.extend(self.misfits(None));
        let mut misfit = |pointer: &str, detail: String| {
            wrong.push(BadSetting::DoesNotFit { pointer: pointer.to_owned(), detail });
        };
        let areas = [
            ("/views/min_area", self.min_area, self.max_area),
            ("/views/small_min_area", self.small_min_area, self.small_max_area),
        ];
        for (pointer, least, most) in areas {
            if least > most {
                misfit(pointer, format!("the smallest area {least} is above the largest, {most}"));
            }
        }
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::Views;
    use crate::domain::augmentation::Preset;

    #[test]
    fn views_are_mirrored_and_blurred_only_where_no_finding_is_lost() {
        for preset in Preset::ALL {
            let views = Views::of(preset);

            assert_eq!(views.validate(), [], "{preset:?}");
            assert_eq!(views.preset, Some(preset));
            let is_mirrored = preset.settings().horizontal_flip > 0.0;
            assert_eq!(views.flip > 0.0, is_mirrored, "{preset:?}");
        }
        for (preset, flip, blur) in [
            (Preset::ChestXray, 0.0, 0.0),
            (Preset::Ct, 0.0, 0.5),
            (Preset::Mri, 0.5, 0.5),
            (Preset::Fundus, 0.5, 0.0),
            (Preset::General, 0.0, 0.5),
        ] {
            let views = Views::of(preset);
            assert_eq!((views.flip, views.blur), (flip, blur), "{preset:?}");
        }
        assert_eq!((Views::default().flip, Views::default().preset), (0.5, None));
    }
}
