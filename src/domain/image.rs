//! One decoded 2-D picture of a dataset, as it is recorded.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::ids::{DatasetId, ImageId};
use super::{Sha256, Split};

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

    /// The media type of the stored original.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Jpeg => "image/jpeg",
            Self::Dicom => "application/dicom",
        }
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
    /// The name of the uploaded file within its upload; identifiers of the patient are masked.
    pub file: String,
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
