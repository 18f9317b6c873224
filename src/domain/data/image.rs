//! One decoded 2-D picture of a dataset, as it is recorded.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::split::Split;
use crate::domain::words::digest::Sha256;
use crate::domain::words::ids::{DatasetId, ImageId};

/// What kind of file a picture came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// PNG, 8 or 16 bits.
    Png,
    /// JPEG.
    Jpeg,
    /// DICOM Part 10.
    Dicom,
}

impl Format {
    /// The word used in JSON and SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg => "jpeg",
            Self::Dicom => "dicom",
        }
    }
}

/// The text under which a picture is shown: the number and the format of its file, and which frame it
/// is where it is not the first: `17.dcm`, `17.dcm frame 3`.
pub fn shown(number: u64, format: Format, frame: u32) -> String {
    let ending = match format {
        Format::Png => "png",
        Format::Jpeg => "jpg",
        Format::Dicom => "dcm",
    };
    match frame {
        0 => format!("{number}.{ending}"),
        frame => format!("{number}.{ending} frame {}", u64::from(frame) + 1),
    }
}

/// A linear grey-scale window in the units of the picture (DICOM PS3.3 C.11.2.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Window {
    /// Centre.
    pub center: f64,
    /// Width, at least 1 for the linear function of the standard; above 0 here.
    pub width: f64,
}

/// One picture of a dataset. A multi-frame object gives one for each frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Image {
    /// Identifier.
    pub id: ImageId,
    /// The dataset it belongs to.
    pub dataset: DatasetId,
    /// The number of its file in the dataset, counted from 1 in the order of upload. Frames of one
    /// file share it; no other file ever gets it. The name that the file had is not kept.
    pub number: u64,
    /// Frame within the file, from 0.
    pub frame: u32,
    /// Class label, when one was given.
    pub label: Option<String>,
    /// Groups the images of one patient; a keyed hash, never the patient's identifier.
    pub patient_key: String,
    /// The split that the labels asked for, if they did.
    pub split: Option<Split>,
    /// File format.
    pub format: Format,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// DICOM modality, if known.
    pub modality: Option<String>,
    /// The window recorded in the file (the first of several), if any.
    pub window: Option<Window>,
    /// SHA-256 of the stored, de-identified original.
    pub blob: Sha256,
    /// Size of the stored original.
    pub size_bytes: u64,
    /// When it was uploaded.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

impl Image {
    /// The text under which it is shown; see [`shown`].
    pub fn shown(&self) -> String {
        shown(self.number, self.format, self.frame)
    }
}

#[cfg(test)]
mod tests {
    use super::{Format, shown};

    #[test]
    fn pictures_are_shown_by_their_number_format_and_frame() {
        assert_eq!(shown(17, Format::Dicom, 0), "17.dcm");
        assert_eq!(shown(17, Format::Dicom, 2), "17.dcm frame 3");
        assert_eq!(shown(1, Format::Jpeg, 0), "1.jpg");
    }
}
