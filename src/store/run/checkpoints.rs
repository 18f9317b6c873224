//! The newest checkpoint of each run, and the one before it in case the newest is damaged.

use bytes::Bytes;

use super::queue::{Claimed, hold};
use crate::domain::{RunId, Sha256};
use crate::store::Store;
use crate::store::error::StoreError;
use crate::store::files::{named, sweep};
use crate::store::row::{parsed, parsed_option};

/// The record that is kept of a run.
#[derive(Debug, Clone, Copy)]
struct Kept {
    newest: Sha256,
    previous: Option<Sha256>,
}

impl Kept {
    /// Its files, newest first.
    fn blobs(&self) -> impl Iterator<Item = Sha256> {
        std::iter::once(self.newest).chain(self.previous)
    }
}

/// A run's checkpoint as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The newest file whose content has the SHA-256 that it was written under.
    pub bytes: Option<Bytes>,
    /// The files that were lost or whose content has another hash, newest first.
    pub damaged: Vec<Sha256>,
}

/// Stores a run's checkpoint and drops the one before the last; whether the run is still this
/// attempt's. A worker that lost its run must not put its older state in the place of its
/// successor's.
pub async fn put(store: &Store, run: &Claimed, bytes: Bytes) -> Result<bool, StoreError> {
    let blob = store.blobs.put_bytes(bytes.clone()).await?;
    let mut transaction = store.pool.begin().await?;
    if !hold(&mut transaction, run).await? {
        // The blob is left to a sweep: the successor computes the same state and may name it.
        return Ok(false);
    }
    named::hold(&mut transaction).await?;
    if !store.blobs.exists(&blob.sha256).await? {
        store.blobs.put_bytes(bytes).await?;
    }
    let before = kept(&mut *transaction, run.id).await?;
    if before.is_some_and(|before| before.newest == blob.sha256) {
        // Computed again after a resumption, it is the newest still.
        return Ok(true);
    }
    sqlx::query(
        "insert into checkpoints (run_id, blob) values ($1, $2)
         on conflict (run_id) do update set previous = checkpoints.blob, blob = excluded.blob,
             written_at = now()",
    )
    .bind(run.id.0)
    .bind(blob.sha256.to_string())
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    // Another run may have come to the same state and name the file as well.
    if let Some(dropped) = before.and_then(|before| before.previous) {
        sweep::release(store, &[dropped]).await?;
    }
    Ok(true)
}

/// A run's newest checkpoint that is whole, if it has written one.
pub async fn get(store: &Store, run: RunId) -> Result<Found, StoreError> {
    let mut found = Found { bytes: None, damaged: Vec::new() };
    let Some(kept) = kept(&store.pool, run).await? else { return Ok(found) };
    for blob in kept.blobs() {
        match store.blobs.bytes(&blob).await {
            Ok(bytes) => {
                found.bytes = Some(bytes);
                break;
            }
            Err(error) if error.is_damage() => found.damaged.push(blob),
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Forgets a run's checkpoints, once it has finished.
pub async fn delete(store: &Store, run: RunId) -> Result<(), StoreError> {
    let Some(kept) = kept(&store.pool, run).await? else { return Ok(()) };
    sqlx::query("delete from checkpoints where run_id = $1")
        .bind(run.0)
        .execute(&store.pool)
        .await?;
    sweep::release(store, &kept.blobs().collect::<Vec<_>>()).await?;
    Ok(())
}

async fn kept(executor: impl sqlx::PgExecutor<'_>, run: RunId) -> Result<Option<Kept>, StoreError> {
    let row = sqlx::query("select blob, previous from checkpoints where run_id = $1")
        .bind(run.0)
        .fetch_optional(executor)
        .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Kept { newest: parsed(&row, "blob")?, previous: parsed_option(&row, "previous")? }))
}
