//! Datasets, what could not be read of an upload, and frozen versions.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::receipt::{Received, Refused};
use super::split::Split;
use super::task::Task;
use crate::domain::words::digest::Sha256;
use crate::domain::words::ids::{DatasetId, VersionId};
use crate::domain::words::name::Name;

/// A named, mutable collection of labelled images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Dataset {
    /// Identifier.
    pub id: DatasetId,
    /// Name, unique on the server.
    pub name: Name,
    /// The task that its labels are for.
    pub task: Task,
    /// Images now in the dataset.
    pub images: u64,
    /// Distinct patients.
    pub patients: u64,
    /// Images of each class; images without a label are not counted.
    pub classes: BTreeMap<String, u64>,
    /// Files that could not be taken, over all uploads.
    pub rejected: u64,
    /// When it was created.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

/// A file of an upload that could not be taken, as it is kept: by its place, without its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RejectedFile {
    /// Its place in the archive, counted from 1; 1 for a file that was sent alone. Null where the
    /// upload as a whole is meant, and for files that were rejected before places were kept.
    #[schema(required)]
    pub entry: Option<u64>,
    /// What is wrong with it, for people to read.
    pub reason: String,
}

/// What became of one upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct UploadReport {
    /// Files that were read and kept.
    pub files: u64,
    /// Pictures that they gave.
    pub images: u64,
    /// Pictures that the dataset already held and that were not added again.
    pub duplicates: u64,
    /// Which number each of these files has got, as many as `LVMED_LIMIT_LISTED_FILES` allows. It is
    /// told here only: the names of files are not stored.
    pub receipt: Vec<Received>,
    /// Files that could not be taken, as many as `LVMED_LIMIT_LISTED_FILES` allows; nothing else was
    /// lost because of them.
    pub rejected: Vec<Refused>,
    /// Files that could not be taken, all of them.
    pub rejected_total: u64,
    /// Files kept that have no label.
    pub files_without_label: u64,
    /// Files kept that name no patient; each counts as a patient of its own.
    pub files_without_patient: u64,
    /// Things worth knowing that did not stop a file from being kept.
    pub notices: Vec<String>,
}

/// Counts of one split of a version.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SplitCounts {
    /// Images.
    pub images: u64,
    /// Distinct patients.
    pub patients: u64,
    /// Images of each class.
    pub classes: BTreeMap<String, u64>,
}

/// A frozen snapshot of a dataset; runs use versions, never datasets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Version {
    /// Identifier.
    pub id: VersionId,
    /// The dataset it was frozen from.
    pub dataset: DatasetId,
    /// Counts up from 1 within the dataset.
    pub number: u32,
    /// The task of the dataset.
    pub task: Task,
    /// Digest of every image, label, patient key and split; equal content gives equal digests.
    pub digest: Sha256,
    /// The seed that the split was drawn with.
    pub seed: u64,
    /// Class labels in the order of the model's outputs (sorted).
    pub labels: Vec<String>,
    /// Counts of each split.
    pub splits: BTreeMap<Split, SplitCounts>,
    /// What a person should know about this snapshot.
    pub notices: Vec<String>,
    /// When it was frozen.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}
