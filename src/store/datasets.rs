//! Rows of datasets and of the files that uploads could not take.

use sqlx::types::Json;
use sqlx::{FromRow, PgConnection, PgPool, Row, postgres::PgRow};

use super::StoreError;
use super::row::{count, is_taken, json, name};
use crate::domain::DatasetId;
use crate::domain::dataset::{Dataset, RejectedFile};
use crate::domain::name::Name;

/// A dataset with its counts, as one row gives it.
struct Found(Dataset);

impl FromRow<'_, PgRow> for Found {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self(Dataset {
            id: DatasetId(row.try_get("id")?),
            name: name(row, "name")?,
            images: count(row, "images")?,
            patients: count(row, "patients")?,
            classes: json(row, "classes")?,
            rejected: count(row, "rejected")?,
            created_at: row.try_get("created_at")?,
        }))
    }
}

/// Creates a dataset; the name must be free.
pub async fn create(pool: &PgPool, name: &Name) -> Result<Dataset, StoreError> {
    let id = DatasetId::new();
    let made = sqlx::query("insert into datasets (id, name) values ($1, $2)")
        .bind(id.0)
        .bind(name.as_str())
        .execute(pool)
        .await;
    match made {
        Err(error) if is_taken(&error) => Err(StoreError::NameTaken(name.to_string())),
        Err(error) => Err(error.into()),
        Ok(_) => one(pool, id).await?.ok_or(StoreError::Database(sqlx::Error::RowNotFound)),
    }
}

/// The dataset of this id, unless it was deleted.
pub async fn one(pool: &PgPool, id: DatasetId) -> Result<Option<Dataset>, StoreError> {
    let found: Option<Found> = sqlx::query_as(
        "select d.id, d.name, d.created_at,
             (select count(*) from images i
              where i.dataset_id = d.id and i.deleted_at is null) as images,
             (select count(distinct patient_key) from images i
              where i.dataset_id = d.id and i.deleted_at is null) as patients,
             (select count(*) from rejected_files r where r.dataset_id = d.id) as rejected,
             (select coalesce(jsonb_object_agg(label, number), '{}') from
                  (select label, count(*) as number from images i
                   where i.dataset_id = d.id and i.deleted_at is null and label is not null
                   group by label) as counts) as classes
         from datasets d where d.id = $1 and d.deleted_at is null",
    )
    .bind(id.0)
    .fetch_optional(pool)
    .await?;
    Ok(found.map(|found| found.0))
}

/// All datasets, oldest first.
pub async fn list(pool: &PgPool) -> Result<Vec<Dataset>, StoreError> {
    let found: Vec<Found> = sqlx::query_as(
        "with counted as
             (select dataset_id, count(*) as images, count(distinct patient_key) as patients
              from images where deleted_at is null group by dataset_id),
         labelled as
             (select dataset_id, jsonb_object_agg(label, number) as classes from
                  (select dataset_id, label, count(*) as number from images
                   where deleted_at is null and label is not null
                   group by dataset_id, label) as counts
              group by dataset_id),
         refused as
             (select dataset_id, count(*) as rejected from rejected_files group by dataset_id)
         select d.id, d.name, d.created_at, coalesce(images, 0) as images,
             coalesce(patients, 0) as patients, coalesce(rejected, 0) as rejected,
             coalesce(classes, '{}') as classes
         from datasets d
         left join counted c on c.dataset_id = d.id
         left join labelled l on l.dataset_id = d.id
         left join refused r on r.dataset_id = d.id
         where d.deleted_at is null order by d.id",
    )
    .fetch_all(pool)
    .await?;
    Ok(found.into_iter().map(|found| found.0).collect())
}

/// Keeps a dataset from being deleted until the transaction ends, and other additions to it waiting.
/// Fails with [`StoreError::Gone`] when it was deleted.
pub(super) async fn hold(connection: &mut PgConnection, id: DatasetId) -> Result<(), StoreError> {
    let found = sqlx::query(
        "select 1 from datasets where id = $1 and deleted_at is null for no key update",
    )
    .bind(id.0)
    .fetch_optional(connection)
    .await?;
    found.map(|_| ()).ok_or(StoreError::Gone("the dataset"))
}

/// Records what an upload could not take. Fails with [`StoreError::Gone`] when the dataset was
/// deleted meanwhile.
pub async fn reject(
    pool: &PgPool,
    id: DatasetId,
    rejected: &[RejectedFile],
) -> Result<(), StoreError> {
    let mut transaction = pool.begin().await?;
    hold(&mut transaction, id).await?;
    sqlx::query(
        "insert into rejected_files (dataset_id, file, reason)
         select $1, file, reason
         from jsonb_to_recordset($2) as rejected (file text, reason text)",
    )
    .bind(id.0)
    .bind(Json(rejected))
    .execute(&mut *transaction)
    .await?;
    Ok(transaction.commit().await?)
}

/// Records that an upload is being read. Should the server die meanwhile, the record stays among the
/// rejected files, and tells that only a part was kept.
pub async fn begin_upload(pool: &PgPool, id: DatasetId) -> Result<i64, StoreError> {
    let mut transaction = pool.begin().await?;
    hold(&mut transaction, id).await?;
    let row = sqlx::query(
        "insert into rejected_files (dataset_id, file, reason) values ($1, 'an upload',
             'is still being read, or the server stopped while it was: upload it again; what is '
             'here already is not added twice')
         returning id",
    )
    .bind(id.0)
    .fetch_one(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(row.try_get("id")?)
}

/// Takes the record of an upload away, once it was read to its end or refused in words.
pub async fn end_upload(pool: &PgPool, upload: i64) -> Result<(), StoreError> {
    sqlx::query("delete from rejected_files where id = $1").bind(upload).execute(pool).await?;
    Ok(())
}

/// The files that uploads to a dataset could not take, newest last, at most `limit`.
pub async fn rejected(
    pool: &PgPool,
    id: DatasetId,
    limit: u32,
) -> Result<Vec<RejectedFile>, StoreError> {
    let rows: Vec<(String, String)> = sqlx::query_as(
        "select file, reason from rejected_files where dataset_id = $1 order by id limit $2",
    )
    .bind(id.0)
    .bind(i64::from(limit))
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|(file, reason)| RejectedFile { file, reason }).collect())
}
