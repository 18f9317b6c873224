//! The newest checkpoint of each run.

use bytes::Bytes;

use super::{Store, StoreError};
use crate::domain::{RunId, Sha256};

/// Stores a run's checkpoint and drops the one before it.
pub async fn put(store: &Store, run: RunId, bytes: Bytes) -> Result<(), StoreError> {
    let blob = store.blobs.put_bytes(bytes).await?;
    let before = blob_of(store, run).await?;
    sqlx::query(
        "insert into checkpoints (run_id, blob) values ($1, $2)
         on conflict (run_id) do update set blob = excluded.blob, written_at = now()",
    )
    .bind(run.0)
    .bind(blob.sha256.to_string())
    .execute(&store.pool)
    .await?;
    match before {
        Some(before) if before != blob.sha256 => store.blobs.delete(&before).await,
        _ => Ok(()),
    }
}

/// A run's checkpoint, if it has written one.
pub async fn get(store: &Store, run: RunId) -> Result<Option<Bytes>, StoreError> {
    match blob_of(store, run).await? {
        None => Ok(None),
        Some(blob) => store.blobs.bytes(&blob).await.map(Some),
    }
}

/// Forgets a run's checkpoint, once it has finished.
pub async fn delete(store: &Store, run: RunId) -> Result<(), StoreError> {
    if let Some(blob) = blob_of(store, run).await? {
        sqlx::query("delete from checkpoints where run_id = $1")
            .bind(run.0)
            .execute(&store.pool)
            .await?;
        store.blobs.delete(&blob).await?;
    }
    Ok(())
}

async fn blob_of(store: &Store, run: RunId) -> Result<Option<Sha256>, StoreError> {
    let row = sqlx::query("select blob from checkpoints where run_id = $1")
        .bind(run.0)
        .fetch_optional(&store.pool)
        .await?;
    Ok(row.as_ref().map(|row| super::row::parsed(row, "blob")).transpose()?)
}
