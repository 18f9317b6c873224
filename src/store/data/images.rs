//! Rows of images.

use sqlx::{FromRow, PgConnection, PgPool, Row, postgres::PgRow};

use super::datasets;
use crate::domain::image::{Format, Image, Window};
use crate::domain::{DatasetId, ImageId, Sha256};
use crate::store::Store;
use crate::store::error::StoreError;
use crate::store::files::blobs::Content;
use crate::store::files::{named, sweep};
use crate::store::row::{count, parsed, parsed_option, small};

/// An image as its row gives it.
pub(super) struct Found(pub(super) Image);

impl FromRow<'_, PgRow> for Found {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let center: Option<f64> = row.try_get("window_center")?;
        let width: Option<f64> = row.try_get("window_width")?;
        Ok(Self(Image {
            id: ImageId(row.try_get("id")?),
            dataset: DatasetId(row.try_get("dataset_id")?),
            number: count(row, "number")?,
            frame: small(row, "frame")?,
            label: row.try_get("label")?,
            patient_key: row.try_get("patient_key")?,
            split: parsed_option(row, "split")?,
            format: format(row)?,
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

/// The format of a row's file.
pub(in crate::store) fn format(row: &PgRow) -> sqlx::Result<Format> {
    let format: &str = row.try_get("format")?;
    match format {
        "png" => Ok(Format::Png),
        "jpeg" => Ok(Format::Jpeg),
        "dicom" => Ok(Format::Dicom),
        _ => Err(sqlx::Error::ColumnDecode {
            index: "format".to_owned(),
            source: "no format is known by this word".into(),
        }),
    }
}

/// Adds the pictures of a file whose original was stored, all or none, as [`add`] does. Fails with
/// [`StoreError::Gone`] when the dataset was deleted, and leaves nothing then.
pub async fn keep(
    store: &Store,
    content: &Content,
    pictures: &[Image],
    original: &str,
) -> Result<Added, StoreError> {
    let added = add_all(store, content, pictures, original).await;
    if let (Err(StoreError::Gone(_)), Some(first)) = (&added, pictures.first()) {
        sweep::after_deletion(store, "a dataset was deleted", &[first.blob]).await;
    }
    added
}

async fn add_all(
    store: &Store,
    content: &Content,
    pictures: &[Image],
    original: &str,
) -> Result<Added, StoreError> {
    let mut transaction = store.pool.begin().await?;
    named::hold(&mut transaction).await?;
    if let Some(first) = pictures.first() {
        datasets::hold(&mut transaction, first.dataset).await?;
        // A row must never name a blob that is not there, and a deletion may have removed it just
        // now.
        if !store.blobs.exists(&first.blob).await? {
            store.blobs.put(content).await?;
        }
    }
    let added = add(&mut transaction, pictures, original).await?;
    transaction.commit().await?;
    Ok(added)
}

/// Originals by which a file is found, at most: more of equal pictures are not worth remembering.
const ORIGINALS: i32 = 16;

/// The outcome of a file that was to be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Added {
    /// The number of its pictures in the dataset.
    pub number: u64,
    /// Pictures of it that are new.
    pub images: u64,
    /// Whether pictures were there already with another class, patient or split, which they keep.
    pub differs: bool,
}

/// Adds the pictures of one file, those that the dataset does not hold yet. Their number is not
/// theirs to say: it is the one that the dataset knows the file by, or the next. `original` is the
/// keyed hash of the file as it came.
///
/// To be called in a transaction: until it ends, others that add to the dataset wait.
pub async fn add(
    connection: &mut PgConnection,
    pictures: &[Image],
    original: &str,
) -> Result<Added, StoreError> {
    let Some(first) = pictures.first() else {
        return Ok(Added { number: 0, images: 0, differs: false });
    };
    let last = sqlx::query("select last_number from datasets where id = $1 for update")
        .bind(first.dataset.0)
        .fetch_one(&mut *connection)
        .await?;
    let known = sqlx::query(
        "select number from images
         where dataset_id = $1 and blob = $2 and deleted_at is null order by frame limit 1",
    )
    .bind(first.dataset.0)
    .bind(first.blob.to_string())
    .fetch_optional(&mut *connection)
    .await?;
    let number = match &known {
        Some(row) => count(row, "number")?,
        None => count(&last, "last_number")? + 1,
    };
    let images = insert(connection, pictures, (number, original)).await?;
    if known.is_none() {
        sqlx::query("update datasets set last_number = $2 where id = $1")
            .bind(first.dataset.0)
            .bind(number as i64)
            .execute(&mut *connection)
            .await?;
        return Ok(Added { number, images, differs: false });
    }
    let differing = sqlx::query(
        "with remembered as (
             update images set original_keys = original_keys || $3
             where dataset_id = $1 and blob = $2 and deleted_at is null
               and not original_keys @> array[$3] and cardinality(original_keys) < $7)
         select count(*) as number from images
         where dataset_id = $1 and blob = $2 and deleted_at is null
           and (label, patient_key, split) is distinct from ($4, $5, $6)",
    )
    .bind(first.dataset.0)
    .bind(first.blob.to_string())
    .bind(original)
    .bind(&first.label)
    .bind(&first.patient_key)
    .bind(first.split.map(crate::domain::Split::as_str))
    .bind(ORIGINALS)
    .fetch_one(connection)
    .await?;
    Ok(Added { number, images, differs: count(&differing, "number")? > 0 })
}

/// Inserts the pictures that are not there yet; how many.
async fn insert(
    connection: &mut PgConnection,
    pictures: &[Image],
    (number, original): (u64, &str),
) -> Result<u64, StoreError> {
    let Some(first) = pictures.first() else { return Ok(0) };
    let column = |of: fn(&Image) -> i32| pictures.iter().map(of).collect::<Vec<i32>>();
    let window = |of: fn(Window) -> f64| {
        pictures.iter().map(|image| image.window.map(of)).collect::<Vec<Option<f64>>>()
    };
    let modalities: Vec<Option<&str>> =
        pictures.iter().map(|image| image.modality.as_deref()).collect();
    let ids: Vec<uuid::Uuid> = pictures.iter().map(|image| image.id.0).collect();
    let done = sqlx::query(
        "insert into images
             (id, frame, width, height, modality, window_center, window_width,
              dataset_id, number, original_keys, label, patient_key, split, format, blob, size_bytes)
         select picture.*, $8, $9, array[$10], $11, $12, $13, $14, $15, $16
         from unnest($1::uuid[], $2::int[], $3::int[], $4::int[], $5::text[], $6::float8[],
             $7::float8[]) as picture
         on conflict (dataset_id, blob, frame) where deleted_at is null do nothing",
    )
    .bind(ids)
    .bind(column(|image| image.frame as i32))
    .bind(column(|image| image.width as i32))
    .bind(column(|image| image.height as i32))
    .bind(modalities)
    .bind(window(|window| window.center))
    .bind(window(|window| window.width))
    .bind(first.dataset.0)
    .bind(number as i64)
    .bind(original)
    .bind(&first.label)
    .bind(&first.patient_key)
    .bind(first.split.map(crate::domain::Split::as_str))
    .bind(first.format.as_str())
    .bind(first.blob.to_string())
    .bind(first.size_bytes as i64)
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
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

/// The images of a dataset to list.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// Only images of this class.
    pub label: Option<String>,
    /// Only images of the file with this keyed hash, or with this digest once it was de-identified.
    pub file: Option<(String, Sha256)>,
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
           and ($5::text is null or original_keys @> array[$5] or blob = $6)
         order by id limit $4",
    )
    .bind(id.0)
    .bind(&page.label)
    .bind(page.after.map(|after| after.0))
    .bind(i64::from(page.limit))
    .bind(page.file.as_ref().map(|(key, _)| key))
    .bind(page.file.as_ref().map(|(_, blob)| blob.to_string()))
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
