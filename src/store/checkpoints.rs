//! The newest checkpoint of each run.

use bytes::Bytes;

use super::queue::{Claimed, hold};
use super::{Store, StoreError};
use crate::domain::{RunId, Sha256};

/// Stores a run's checkpoint and drops the one before it; whether the run is still this attempt's.
/// A worker that lost its run must not put its older state in the place of its successor's.
pub async fn put(store: &Store, run: &Claimed, bytes: Bytes) -> Result<bool, StoreError> {
    let blob = store.blobs.put_bytes(bytes).await?;
    let mut transaction = store.pool.begin().await?;
    if !hold(&mut transaction, run).await? {
        // The blob stays: the successor computes the same state and may refer to it already.
        return Ok(false);
    }
    let before = blob_of(&mut *transaction, run.id).await?;
    sqlx::query(
        "insert into checkpoints (run_id, blob) values ($1, $2)
         on conflict (run_id) do update set blob = excluded.blob, written_at = now()",
    )
    .bind(run.id.0)
    .bind(blob.sha256.to_string())
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    match before {
        Some(before) if before != blob.sha256 => store.blobs.delete(&before).await?,
        _ => {}
    }
    Ok(true)
}

/// A run's checkpoint, if it has written one.
pub async fn get(store: &Store, run: RunId) -> Result<Option<Bytes>, StoreError> {
    match blob_of(&store.pool, run).await? {
        None => Ok(None),
        Some(blob) => store.blobs.bytes(&blob).await.map(Some),
    }
}

/// Forgets a run's checkpoint, once it has finished.
pub async fn delete(store: &Store, run: RunId) -> Result<(), StoreError> {
    if let Some(blob) = blob_of(&store.pool, run).await? {
        sqlx::query("delete from checkpoints where run_id = $1")
            .bind(run.0)
            .execute(&store.pool)
            .await?;
        store.blobs.delete(&blob).await?;
    }
    Ok(())
}

async fn blob_of(
    executor: impl sqlx::PgExecutor<'_>,
    run: RunId,
) -> Result<Option<Sha256>, StoreError> {
    let row = sqlx::query("select blob from checkpoints where run_id = $1")
        .bind(run.0)
        .fetch_optional(executor)
        .await?;
    Ok(row.as_ref().map(|row| super::row::parsed(row, "blob")).transpose()?)
}
