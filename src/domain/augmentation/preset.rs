//! Presets: augmentation that is safe for one kind of picture, with the reasons.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Augmentation, Blur, Border, Change, Crop, Cutout, Noise, Rotation};
use crate::domain::run::UnknownWord;

/// Augmentation that is safe for one kind of picture.
///
/// A preset varies what differs between patients, machines and operators without a change of the
/// finding, and leaves alone what a finding is told by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// Pictures as they are.
    None,
    /// Frontal and lateral chest radiographs.
    ///
    /// Never mirrored: the heart's side, the aortic arch and the gastric bubble are findings, and
    /// nobody lies upside down. Patients stand a little askew (7 degrees) and near or far (crop);
    /// exposure and processing differ between machines (brightness, contrast, gamma, noise). No
    /// blur, no cutout: fine reticular lines and small nodules would go.
    ChestXray,
    /// CT slices.
    ///
    /// Not mirrored: liver and spleen have sides. Hounsfield units are calibrated and have gone
    /// through a window, so brightness and contrast vary little; dose (noise) and reconstruction
    /// kernel (blur) vary much. Patients lie a little turned.
    Ct,
    /// MR slices.
    ///
    /// The scale of the signal is arbitrary and the coil shades it: brightness, contrast and gamma
    /// vary widely. Mirrored left to right, since heads, spines and joints are nearly symmetrical
    /// and a lesion keeps its class on the other side; to be turned off where the side of an organ
    /// tells. Never top to bottom: slices come in standard orientation.
    Mri,
    /// Ultrasound.
    ///
    /// Mirrored left to right: which way the probe is held is the operator's choice. Never top to
    /// bottom: depth runs downwards, and shadow and enhancement lie below what causes them. Gain and
    /// its compensation over depth differ (brightness, contrast, gamma), as do angle and speckle.
    Ultrasound,
    /// Colour photographs of the fundus.
    ///
    /// Mirrored left to right, which makes a right eye of a left one. Not top to bottom, because the
    /// vascular arcades and the macula's place below the disc's middle are landmarks. Cameras are
    /// held askew (20 degrees) and expose differently. No blur, noise or cutout: a microaneurysm is
    /// a few pixels wide.
    Fundus,
    /// Tissue under the microscope.
    ///
    /// Tissue has no up, down, left or right: every mirror image and every angle, lossless quarter
    /// turns among them, with the picture mirrored beyond its border so that no black corners arise.
    /// Proportions are kept, since the shape of nuclei tells; magnification varies little. Stain and
    /// lamp (brightness, contrast, gamma) and focus (blur) differ between laboratories.
    Histology,
    /// Dermoscopy and close photographs of the skin.
    ///
    /// A lesion has no orientation: every mirror image and angle. Light and skin differ (brightness,
    /// contrast, gamma); a square is covered at times as hair, rulers and ink cover parts. Mild crop:
    /// the border of the lesion, a criterion of malignancy, should stay in view.
    Dermoscopy,
    /// Endoscopy.
    ///
    /// The endoscope turns about its axis: every mirror image and angle within the round black
    /// field. Distance and light change from frame to frame (crop, brightness, contrast, gamma), the
    /// picture moves (blur), and glare and bubbles hide parts (cutout).
    Endoscopy,
    /// Pictures of an unknown kind.
    ///
    /// Only what is harmless nearly everywhere: a small crop and rotation, small changes of brightness
    /// and contrast. Not mirrored, since a side may be what tells the classes apart.
    General,
}

impl Preset {
    /// Every preset.
    pub const ALL: [Self; 10] = [
        Self::None,
        Self::ChestXray,
        Self::Ct,
        Self::Mri,
        Self::Ultrasound,
        Self::Fundus,
        Self::Histology,
        Self::Dermoscopy,
        Self::Endoscopy,
        Self::General,
    ];

    /// The word used in JSON and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::ChestXray => "chest_xray",
            Self::Ct => "ct",
            Self::Mri => "mri",
            Self::Ultrasound => "ultrasound",
            Self::Fundus => "fundus",
            Self::Histology => "histology",
            Self::Dermoscopy => "dermoscopy",
            Self::Endoscopy => "endoscopy",
            Self::General => "general",
        }
    }

    /// The preset for pictures of a DICOM modality (PS3.3 C.7.3.1.1.1, attribute 0008,0060) and body
    /// part (0018,0015); pictures of no modality, or of one that has no preset, get [`Self::General`].
    pub fn suggest(modality: Option<&str>, body_part: Option<&str>) -> Self {
        let word = |text: Option<&str>| text.unwrap_or_default().trim().to_ascii_uppercase();
        let (modality, body_part) = (word(modality), word(body_part));
        let is_chest = ["CHEST", "THORAX", "LUNG"].iter().any(|part| body_part.contains(part));
        match modality.as_str() {
            "CR" | "DX" if is_chest => Self::ChestXray,
            "CT" => Self::Ct,
            "MR" => Self::Mri,
            "US" | "IVUS" => Self::Ultrasound,
            "OP" => Self::Fundus,
            "SM" => Self::Histology,
            "DMS" => Self::Dermoscopy,
            "ES" => Self::Endoscopy,
            _ => Self::General,
        }
    }

    /// The settings.
    pub fn settings(self) -> Augmentation {
        match self {
            Self::None => Augmentation::default(),
            Self::ChestXray => Augmentation {
                rotation: rotation(7.0),
                crop: crop(0.85, 1.0, 1.1),
                brightness: change(0.1),
                contrast: change(0.15),
                gamma: change(0.15),
                noise: Noise { probability: 0.2, max_std: 0.02 },
                ..Augmentation::default()
            },
            Self::Ct => Augmentation {
                rotation: rotation(10.0),
                crop: crop(0.8, 1.1, 1.0),
                brightness: change(0.03),
                contrast: change(0.05),
                blur: Blur { probability: 0.2, max_sigma: 0.004 },
                noise: Noise { probability: 0.3, max_std: 0.03 },
                ..Augmentation::default()
            },
            Self::Mri => Augmentation {
                horizontal_flip: 0.5,
                rotation: rotation(10.0),
                crop: crop(0.8, 1.1, 1.1),
                brightness: change(0.15),
                contrast: change(0.3),
                gamma: change(0.3),
                blur: Blur { probability: 0.1, max_sigma: 0.004 },
                noise: Noise { probability: 0.2, max_std: 0.03 },
                ..Augmentation::default()
            },
            Self::Ultrasound => Augmentation {
                horizontal_flip: 0.5,
                rotation: rotation(10.0),
                crop: crop(0.75, 1.0, 1.1),
                brightness: change(0.15),
                contrast: change(0.25),
                gamma: change(0.25),
                blur: Blur { probability: 0.1, max_sigma: 0.004 },
                noise: Noise { probability: 0.3, max_std: 0.04 },
                ..Augmentation::default()
            },
            Self::Fundus => Augmentation {
                horizontal_flip: 0.5,
                rotation: rotation(20.0),
                crop: crop(0.85, 1.05, 1.0),
                brightness: change(0.15),
                contrast: change(0.2),
                gamma: change(0.2),
                ..Augmentation::default()
            },
            Self::Histology => Augmentation {
                crop: crop(0.7, 1.0, 1.0),
                brightness: change(0.1),
                contrast: change(0.2),
                gamma: change(0.15),
                blur: Blur { probability: 0.2, max_sigma: 0.005 },
                ..without_orientation(Border::Mirror)
            },
            Self::Dermoscopy => Augmentation {
                crop: crop(0.8, 1.0, 1.1),
                brightness: change(0.15),
                contrast: change(0.2),
                gamma: change(0.2),
                cutout: Cutout { probability: 0.2, max_side: 0.15 },
                ..without_orientation(Border::Mirror)
            },
            Self::Endoscopy => Augmentation {
                crop: crop(0.7, 1.0, 1.1),
                brightness: change(0.2),
                contrast: change(0.25),
                gamma: change(0.25),
                blur: Blur { probability: 0.2, max_sigma: 0.008 },
                cutout: Cutout { probability: 0.2, max_side: 0.15 },
                ..without_orientation(Border::Black)
            },
            Self::General => Augmentation {
                rotation: rotation(5.0),
                crop: crop(0.85, 1.0, 1.1),
                border: Border::Edge,
                brightness: change(0.1),
                contrast: change(0.1),
                ..Augmentation::default()
            },
        }
    }
}

/// Half of the pictures, turned by up to `degrees`.
fn rotation(degrees: f64) -> Rotation {
    Rotation { probability: 0.5, degrees }
}

/// Most of the pictures, cropped.
fn crop(min_area: f64, max_area: f64, max_aspect: f64) -> Crop {
    Crop { probability: 0.8, min_area, max_area, max_aspect }
}

/// Half of the pictures, changed by up to `strength`.
fn change(strength: f64) -> Change {
    Change { probability: 0.5, strength }
}

/// Every mirror image and every angle: one of the eight symmetries of the square, each as likely,
/// and for half of the pictures up to 45 degrees more.
fn without_orientation(border: Border) -> Augmentation {
    Augmentation {
        horizontal_flip: 0.5,
        vertical_flip: 0.5,
        quarter_turns: 0.75,
        rotation: rotation(45.0),
        border,
        ..Augmentation::default()
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Preset {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|preset| preset.as_str() == text)
            .ok_or_else(|| UnknownWord::new("augmentation preset", text))
    }
}

#[cfg(test)]
mod tests {
    use super::{Augmentation, Preset};

    #[test]
    fn every_preset_is_within_the_ranges_and_has_one_word() {
        for preset in Preset::ALL {
            assert_eq!(preset.settings().validate(), [], "{preset}");
            assert_eq!(preset.as_str().parse::<Preset>().expect("known"), preset);
            let json = serde_json::to_value(preset).expect("written");
            assert_eq!(json, preset.as_str());
        }
        assert_eq!(Preset::None.settings(), Augmentation::default());
        assert!("xray".parse::<Preset>().is_err());
    }

    #[test]
    fn pictures_are_only_mirrored_where_their_sides_mean_nothing() {
        let flips = Preset::ALL.map(|preset| {
            let settings = preset.settings();
            (preset.as_str(), settings.horizontal_flip > 0.0, settings.vertical_flip > 0.0)
        });

        let expected = [
            ("none", false, false),
            ("chest_xray", false, false),
            ("ct", false, false),
            ("mri", true, false),
            ("ultrasound", true, false),
            ("fundus", true, false),
            ("histology", true, true),
            ("dermoscopy", true, true),
            ("endoscopy", true, true),
            ("general", false, false),
        ];
        assert_eq!(flips, expected);
    }

    #[test]
    fn only_pictures_without_orientation_are_turned_upside_down() {
        for preset in Preset::ALL {
            let settings = preset.settings();
            let any = settings.vertical_flip > 0.0;
            assert_eq!(settings.quarter_turns > 0.0, any, "{preset}");
            assert_eq!(settings.rotation.degrees > 20.0, any, "{preset}");
        }
    }

    #[test]
    fn a_modality_suggests_its_preset_and_a_radiograph_only_with_its_body_part() {
        let table = [
            (Some("DX"), Some("CHEST"), Preset::ChestXray),
            (Some("CR"), Some("thorax "), Preset::ChestXray),
            (Some("CR"), Some("HAND"), Preset::General),
            (Some("DX"), None, Preset::General),
            (Some("CT"), Some("CHEST"), Preset::Ct),
            (Some("MR"), None, Preset::Mri),
            (Some("US"), None, Preset::Ultrasound),
            (Some("OP"), None, Preset::Fundus),
            (Some("SM"), None, Preset::Histology),
            (Some("DMS"), None, Preset::Dermoscopy),
            (Some("ES"), None, Preset::Endoscopy),
            (Some("MG"), None, Preset::General),
            (None, Some("CHEST"), Preset::General),
        ];
        for (modality, body_part, expected) in table {
            assert_eq!(
                Preset::suggest(modality, body_part),
                expected,
                "{modality:?} {body_part:?}"
            );
        }
    }
}
