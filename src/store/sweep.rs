//! Removing originals that nothing refers to any more, once images are deleted.

use sqlx::{PgConnection, Postgres, Transaction};

use super::row::parsed;
use super::{Store, StoreError};
use crate::domain::{DatasetId, ImageId, Sha256};

/// Names the lock between those who add originals and those who remove them.
const LOCK: i64 = 0x6c76_6d65_645f_6f72;

/// What was deleted.
#[derive(Debug, Clone, Copy)]
pub enum Deleted {
    /// All images of a dataset.
    Dataset(DatasetId),
    /// One image.
    Image(ImageId),
}

/// Held while an original and the rows that refer to it are added. Without it, a sweep between the
/// two could remove an original that was there already and is wanted again.
#[derive(Debug)]
pub struct Adding(Transaction<'static, Postgres>);

impl Adding {
    /// Waits for sweeps to end, and keeps new ones from beginning.
    pub async fn begin(store: &Store) -> Result<Self, StoreError> {
        let mut transaction = store.pool.begin().await?;
        sqlx::query("select pg_advisory_xact_lock_shared($1)")
            .bind(LOCK)
            .execute(&mut *transaction)
            .await?;
        Ok(Self(transaction))
    }

    /// The transaction, in which the rows are added: all of a file's, or none.
    pub fn connection(&mut self) -> &mut PgConnection {
        &mut self.0
    }

    /// Lets sweeps begin again.
    pub async fn end(self) -> Result<(), StoreError> {
        Ok(self.0.commit().await?)
    }
}

/// Removes the originals and cached features of deleted images that neither another image nor a
/// version of a dataset that is still there refers to; how many originals.
pub async fn originals(store: &Store, deleted: Deleted) -> Result<u64, StoreError> {
    let mut transaction = store.pool.begin().await?;
    sqlx::query("select pg_advisory_xact_lock($1)").bind(LOCK).execute(&mut *transaction).await?;
    let unused = unused(&mut transaction, deleted).await?;
    let names: Vec<String> = unused.iter().map(ToString::to_string).collect();
    sqlx::query("delete from features where blob = any($1)")
        .bind(&names)
        .execute(&mut *transaction)
        .await?;
    for blob in &unused {
        store.blobs.delete(blob).await?;
    }
    transaction.commit().await?;
    Ok(unused.len() as u64)
}

async fn unused(
    connection: &mut PgConnection,
    deleted: Deleted,
) -> Result<Vec<Sha256>, StoreError> {
    let (dataset, image) = match deleted {
        Deleted::Dataset(id) => (Some(id.0), None),
        Deleted::Image(id) => (None, Some(id.0)),
    };
    let rows = sqlx::query(
        "select distinct i.blob from images i
         where i.deleted_at is not null and (i.dataset_id = $1 or i.id = $2)
           and not exists (
               select 1 from images o where o.blob = i.blob and o.deleted_at is null)
           and not exists (
               select 1 from images o
               join version_images v on v.image_id = o.id
               join datasets d on d.id = o.dataset_id
               where o.blob = i.blob and d.deleted_at is null)",
    )
    .bind(dataset)
    .bind(image)
    .fetch_all(connection)
    .await?;
    Ok(rows.iter().map(|row| parsed(row, "blob")).collect::<sqlx::Result<_>>()?)
}
