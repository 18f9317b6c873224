//! Frozen dataset versions and the images they hold.

use sqlx::types::Json;
use sqlx::{FromRow, PgPool, Row, postgres::PgRow};

use super::datasets;
use super::images::Found as FoundImage;
use crate::domain::dataset::Version;
use crate::domain::image::Image;
use crate::domain::{DatasetId, Split, VersionId};
use crate::store::error::StoreError;
use crate::store::row::{is_gone, json, parsed, small};

/// A version as its row gives it.
struct Found(Version);

impl FromRow<'_, PgRow> for Found {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self(Version {
            id: VersionId(row.try_get("id")?),
            dataset: DatasetId(row.try_get("dataset_id")?),
            number: small(row, "number")?,
            task: parsed(row, "task")?,
            digest: parsed(row, "digest")?,
            seed: row.try_get::<i64, _>("seed")? as u64,
            labels: json(row, "labels")?,
            splits: json(row, "splits")?,
            notices: json(row, "notices")?,
            created_at: row.try_get("created_at")?,
        }))
    }
}

/// An image as a version froze it.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct VersionImage {
    /// The image, with the label and patient key it had when the version was frozen.
    pub image: Image,
    /// The split it belongs to.
    pub split: Split,
}

/// Freezes a snapshot. The number of `version` is ignored and counts up within the dataset. Fails
/// with [`StoreError::Gone`] when the dataset, or an image of it, was deleted meanwhile.
pub async fn freeze(
    pool: &PgPool,
    version: &Version,
    images: &[VersionImage],
) -> Result<Version, StoreError> {
    let mut transaction = pool.begin().await?;
    // Two snapshots at once would take the same number.
    datasets::hold(&mut transaction, version.dataset).await?;
    let found: Found = sqlx::query_as(
        "insert into dataset_versions
             (id, dataset_id, number, task, digest, seed, labels, splits, notices)
         values ($1, $2,
             (select coalesce(max(number), 0) + 1 from dataset_versions where dataset_id = $2),
             $3, $4, $5, $6, $7, $8)
         returning *",
    )
    .bind(version.id.0)
    .bind(version.dataset.0)
    .bind(version.task.as_str())
    .bind(version.digest.to_string())
    .bind(version.seed as i64)
    .bind(Json(&version.labels))
    .bind(Json(&version.splits))
    .bind(Json(&version.notices))
    .fetch_one(&mut *transaction)
    .await?;
    let ids: Vec<uuid::Uuid> = images.iter().map(|entry| entry.image.id.0).collect();
    let labels: Vec<Option<&str>> =
        images.iter().map(|entry| entry.image.label.as_deref()).collect();
    let patients: Vec<&str> = images.iter().map(|entry| entry.image.patient_key.as_str()).collect();
    let splits: Vec<&str> = images.iter().map(|entry| entry.split.as_str()).collect();
    let frozen = sqlx::query(
        "insert into version_images (version_id, image_id, label, patient_key, split)
         select $1, * from unnest($2::uuid[], $3::text[], $4::text[], $5::text[])",
    )
    .bind(version.id.0)
    .bind(ids)
    .bind(labels)
    .bind(patients)
    .bind(splits)
    .execute(&mut *transaction)
    .await;
    match frozen {
        Err(error) if is_gone(&error) => Err(StoreError::Gone("an image of the dataset")),
        frozen => {
            frozen?;
            transaction.commit().await?;
            Ok(found.0)
        }
    }
}

/// The version of this id.
pub async fn one(pool: &PgPool, id: VersionId) -> Result<Option<Version>, StoreError> {
    let found: Option<Found> = sqlx::query_as("select * from dataset_versions where id = $1")
        .bind(id.0)
        .fetch_optional(pool)
        .await?;
    Ok(found.map(|found| found.0))
}

/// The versions of a dataset, oldest first.
pub async fn list(pool: &PgPool, id: DatasetId) -> Result<Vec<Version>, StoreError> {
    let found: Vec<Found> =
        sqlx::query_as("select * from dataset_versions where dataset_id = $1 order by number")
            .bind(id.0)
            .fetch_all(pool)
            .await?;
    Ok(found.into_iter().map(|found| found.0).collect())
}

/// The images of a version, or of one split of it, in an order that only their content decides.
pub async fn images(
    pool: &PgPool,
    id: VersionId,
    split: Option<Split>,
) -> Result<Vec<VersionImage>, StoreError> {
    let rows = sqlx::query(
        "select i.id, i.dataset_id, i.number, i.frame, v.label, v.patient_key, v.split, i.format,
             i.width, i.height, i.modality, i.window_center, i.window_width, i.blob, i.size_bytes,
             i.created_at
         from version_images v join images i on i.id = v.image_id
         where v.version_id = $1 and ($2::text is null or v.split = $2)
         order by i.blob, i.frame, i.id",
    )
    .bind(id.0)
    .bind(split.map(Split::as_str))
    .fetch_all(pool)
    .await?;
    rows.iter()
        .map(|row| {
            let image = FoundImage::from_row(row)?.0;
            Ok(VersionImage { image, split: parsed(row, "split")? })
        })
        .collect()
}
