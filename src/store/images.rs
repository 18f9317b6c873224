//! Rows of images.

use bytes::Bytes;
use sqlx::{FromRow, PgExecutor, PgPool, Row, postgres::PgRow};

use super::row::{count, parsed, parsed_option, small};
use super::{Store, StoreError, datasets, named, sweep};
use crate::domain::image::{Format, Image, Window};
use crate::domain::{DatasetId, ImageId, Sha256};

/// An image as its row gives it.
pub(super) struct Found(pub(super) Image);

impl FromRow<'_, PgRow> for Found {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let center: Option<f64> = row.try_get("window_center")?;
        let width: Option<f64> = row.try_get("window_width")?;
        let format: String = row.try_get("format")?;
        Ok(Self(Image {
            id: ImageId(row.try_get("id")?),
            dataset: DatasetId(row.try_get("dataset_id")?),
            file: row.try_get("file")?,
            frame: small(row, "frame")?,
            label: row.try_get("label")?,
            patient_key: row.try_get("patient_key")?,
            split: parsed_option(row, "split")?,
            format: match format.as_str() {
                "png" => Format::Png,
                "jpeg" => Format::Jpeg,
                _ => Format::Dicom,
            },
            width: small(row, "width")?,
            height: small(row, "height")?,
            modality: row.try_get("modality")?,
            window: center.zip(width).map(|(center, width)| Window { center, width }),
            blob: parsed(row, "blob")?,
            size_bytes: count(row, "size_bytes")?,
            created_at: row.try_get("created_at")?,
        }))
    }
}

/// Stores an original and adds its images, one a frame, all or none. For each the image that the
/// dataset holds of that frame already, in whose place it is not added. Fails with
/// [`StoreError::Gone`] when the dataset was deleted, and leaves nothing then.
pub async fn keep(
    store: &Store,
    dataset: DatasetId,
    original: &Content,
    images: &[Image],
) -> Result<Vec<Option<Image>>, StoreError> {
    // Before a connection is taken: writing may take its time.
    let blob = store.blobs.put(original).await?;
    let added = add_all(store, dataset, original, images).await;
    if matches!(added, Err(StoreError::Gone(_))) {
        sweep::after_deletion(store, "a dataset was deleted", &[blob.sha256]).await;
    }
    added
}

async fn add_all(
    store: &Store,
    dataset: DatasetId,
    original: &Content,
    images: &[Image],
) -> Result<Vec<Option<Image>>, StoreError> {
    let mut transaction = store.pool.begin().await?;
    named::hold(&mut transaction).await?;
    datasets::hold(&mut transaction, dataset).await?;
    // A row must never name a blob that is not there, and a deletion may have removed it just now.
    if let Some(image) = images.first()
        && !store.blobs.exists(&image.blob).await?
    {
        store.blobs.put(original).await?;
    }
    let mut held = Vec::with_capacity(images.len());
    for image in images {
        let is_new = add(&mut *transaction, image).await?;
        held.push(if is_new {
            None
        } else {
            same(&mut *transaction, dataset, &image.blob, image.frame).await?
        });
    }
    transaction.commit().await?;
    Ok(held)
}

/// Adds an image unless the dataset already holds that frame of that file; whether it was added.
pub async fn add(executor: impl PgExecutor<'_>, image: &Image) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "insert into images
             (id, dataset_id, file, frame, label, patient_key, split, format, width, height,
              modality, window_center, window_width, blob, size_bytes)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
         on conflict (dataset_id, blob, frame) where deleted_at is null do nothing",
    )
    .bind(image.id.0)
    .bind(image.dataset.0)
    .bind(&image.file)
    .bind(image.frame as i32)
    .bind(&image.label)
    .bind(&image.patient_key)
    .bind(image.split.map(crate::domain::Split::as_str))
    .bind(image.format.as_str())
    .bind(image.width as i32)
    .bind(image.height as i32)
    .bind(&image.modality)
    .bind(image.window.map(|window| window.center))
    .bind(image.window.map(|window| window.width))
    .bind(image.blob.to_string())
    .bind(image.size_bytes as i64)
    .execute(executor)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// The image that a dataset already holds of that frame of that file.
pub async fn same(
    executor: impl PgExecutor<'_>,
    dataset: DatasetId,
    blob: &Sha256,
    frame: u32,
) -> Result<Option<Image>, StoreError> {
    let found: Option<Found> = sqlx::query_as(
        "select * from images
         where dataset_id = $1 and blob = $2 and frame = $3 and deleted_at is null",
    )
    .bind(dataset.0)
    .bind(blob.to_string())
    .bind(frame as i32)
    .fetch_optional(executor)
    .await?;
    Ok(found.map(|found| found.0))
}

/// The image of this id, unless it was deleted.
pub async fn one(pool: &PgPool, id: ImageId) -> Result<Option<Image>, StoreError> {
    let found: Option<Found> =
        sqlx::query_as("select * from images where id = $1 and deleted_at is null")
            .bind(id.0)
            .fetch_optional(pool)
            .await?;
    Ok(found.map(|found| found.0))
}

/// Which images of a dataset to list.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// Only images of this class.
    pub label: Option<String>,
    /// Only images after this one.
    pub after: Option<ImageId>,
    /// At most this many.
    pub limit: u32,
}

/// Images of a dataset in the order of their upload.
pub async fn list(pool: &PgPool, id: DatasetId, page: &Page) -> Result<Vec<Image>, StoreError> {
    let found: Vec<Found> = sqlx::query_as(
        "select * from images
         where dataset_id = $1 and deleted_at is null
           and ($2::text is null or label = $2) and ($3::uuid is null or id > $3)
         order by id limit $4",
    )
    .bind(id.0)
    .bind(&page.label)
    .bind(page.after.map(|after| after.0))
    .bind(i64::from(page.limit))
    .fetch_all(pool)
    .await?;
    Ok(found.into_iter().map(|found| found.0).collect())
}

/// Every image of a dataset for a snapshot: those that have a label, or really every one.
pub async fn for_snapshot(
    pool: &PgPool,
    id: DatasetId,
    include_unlabelled: bool,
) -> Result<Vec<Image>, StoreError> {
    let found: Vec<Found> = sqlx::query_as(
        "select * from images
         where dataset_id = $1 and deleted_at is null and (label is not null or $2)
         order by blob, frame",
    )
    .bind(id.0)
    .bind(include_unlabelled)
    .fetch_all(pool)
    .await?;
    Ok(found.into_iter().map(|found| found.0).collect())
}
