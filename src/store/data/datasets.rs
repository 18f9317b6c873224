//! Rows of datasets and of the files that uploads could not take.

use sqlx::{FromRow, PgConnection, PgPool, Row, postgres::PgRow};

use crate::domain::dataset::{Dataset, RejectedFile};
use crate::domain::name::Name;
use crate::domain::receipt::{Capped, Refused};
use crate::domain::{DatasetId, Task};
use crate::store::error::StoreError;
use crate::store::row::{count, is_taken, json, name, parsed};

/// A dataset with its counts, as one row gives it.
struct Found(Dataset);

impl FromRow<'_, PgRow> for Found {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self(Dataset {
            id: DatasetId(row.try_get("id")?),
            name: name(row, "name")?,
            task: parsed(row, "task")?,
            images: count(row, "images")?,
            patients: count(row, "patients")?,
            classes: json(row, "classes")?,
            rejected: count(row, "rejected")?,
            created_at: row.try_get("created_at")?,
        }))
    }
}

/// Creates a dataset for a task; the name must be free.
pub async fn create(pool: &PgPool, name: &Name, task: Task) -> Result<Dataset, StoreError> {
    let id = DatasetId::new();
    let made = sqlx::query("insert into datasets (id, name, task) values ($1, $2, $3)")
        .bind(id.0)
        .bind(name.as_str())
        .bind(task.as_str())
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
        "select d.id, d.name, d.task, d.created_at,
             (select count(*) from images i
              where i.dataset_id = d.id and i.deleted_at is null) as images,
             (select count(distinct patient_key) from images i
              where i.dataset_id = d.id and i.deleted_at is null) as patients,
             (select coalesce(sum(files), 0)::bigint from rejected_files r
              where r.dataset_id = d.id) as rejected,
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
             (select dataset_id, sum(files)::bigint as rejected from rejected_files
              group by dataset_id)
         select d.id, d.name, d.task, d.created_at, coalesce(images, 0) as images,
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

/// The text that stands for an upload that is being read.
const UNFINISHED: &str = "is still being read, or the server stopped while it was: upload it again; \
    what is here already is not added twice";

/// Records what an upload could not take, in place of what it could not take when it came before.
/// `upload` is what it is known by. Fails with [`StoreError::Gone`] when the dataset was deleted
/// meanwhile.
pub async fn reject(
    pool: &PgPool,
    id: DatasetId,
    upload: &str,
    rejected: &Capped<Refused>,
) -> Result<(), StoreError> {
    let mut transaction = pool.begin().await?;
    hold(&mut transaction, id).await?;
    sqlx::query("delete from rejected_files where dataset_id = $1 and upload = $2")
        .bind(id.0)
        .bind(upload)
        .execute(&mut *transaction)
        .await?;
    let (entries, reasons): (Vec<i64>, Vec<&str>) =
        rejected.items().iter().map(|file| (file.entry as i64, file.reason.as_str())).unzip();
    sqlx::query(
        "insert into rejected_files (dataset_id, upload, entry, reason)
         select $1, $2, * from unnest($3::bigint[], $4::text[])",
    )
    .bind(id.0)
    .bind(upload)
    .bind(entries)
    .bind(reasons)
    .execute(&mut *transaction)
    .await?;
    sqlx::query(
        "insert into rejected_files (dataset_id, upload, files, reason)
         select $1, $2, $3, $4 where $3 > 0",
    )
    .bind(id.0)
    .bind(upload)
    .bind(rejected.left_out() as i64)
    .bind("further files of an upload could not be taken; they are only counted")
    .execute(&mut *transaction)
    .await?;
    Ok(transaction.commit().await?)
}

/// Records that an upload is being read. Should the server die meanwhile, the record stays among the
/// rejected files, and tells that only a part was kept.
pub async fn begin_upload(pool: &PgPool, id: DatasetId, upload: &str) -> Result<i64, StoreError> {
    let mut transaction = pool.begin().await?;
    hold(&mut transaction, id).await?;
    let row = sqlx::query(
        "with before as (
             delete from rejected_files where dataset_id = $1 and upload = $2 and reason = $3)
         insert into rejected_files (dataset_id, upload, reason) values ($1, $2, $3) returning id",
    )
    .bind(id.0)
    .bind(upload)
    .bind(UNFINISHED)
    .fetch_one(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(row.try_get("id")?)
}

/// Takes the record of an upload away, once it was read to its end or refused in words.
pub async fn end_upload(pool: &PgPool, begun: i64) -> Result<(), StoreError> {
    sqlx::query("delete from rejected_files where id = $1").bind(begun).execute(pool).await?;
    Ok(())
}

/// The files that uploads to a dataset could not take, newest last, at most `limit`.
pub async fn rejected(
    pool: &PgPool,
    id: DatasetId,
    limit: u64,
) -> Result<Vec<RejectedFile>, StoreError> {
    let rows: Vec<(Option<i64>, String)> = sqlx::query_as(
        "select entry, reason from rejected_files where dataset_id = $1 order by id limit $2",
    )
    .bind(id.0)
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .fetch_all(pool)
    .await?;
    let file = |(entry, reason): (Option<i64>, String)| RejectedFile {
        entry: entry.and_then(|entry| u64::try_from(entry).ok()),
        reason,
    };
    Ok(rows.into_iter().map(file).collect())
}
