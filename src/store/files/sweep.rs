//! Removing what no row names any more: at once after a deletion, and by a sweep now and then what
//! a crash, a lost lease or an earlier version left behind.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use super::named;
use super::owner::{self, OwnerError};
use crate::domain::Sha256;
use crate::store::Store;
use crate::store::error::StoreError;

/// Blobs that are looked at in one transaction, while which nothing can be added.
const BATCH: usize = 200;

/// The files that a sweep leaves alone.
#[derive(Debug, Clone)]
pub struct Keep {
    /// Files stored within so short a time: their rows may be on the way.
    pub grace: Duration,
    /// Checkpoints of runs that failed or were cancelled within so short a time.
    pub checkpoints: Duration,
    /// The file that names the database of the folder.
    pub owner: PathBuf,
}

/// The files that a sweep removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Blobs that no row named.
    pub blobs: u64,
    /// Files of writes that never ended.
    pub leftovers: u64,
}

/// Removes those of these blobs that no row names, with the features computed from them; how many.
pub async fn release(store: &Store, blobs: &[Sha256]) -> Result<u64, StoreError> {
    let mut removed = 0;
    for batch in blobs.chunks(BATCH) {
        let mut transaction = store.pool.begin().await?;
        named::hold_alone(&mut transaction).await?;
        let unnamed = named::unnamed(&mut transaction, batch).await?;
        let names: Vec<String> = unnamed.iter().map(ToString::to_string).collect();
        sqlx::query("delete from features where blob = any($1)")
            .bind(&names)
            .execute(&mut *transaction)
            .await?;
        for blob in &unnamed {
            store.blobs.delete(blob).await?;
        }
        transaction.commit().await?;
        removed += unnamed.len() as u64;
    }
    Ok(removed)
}

/// Removes the files of something whose rows were deleted. The deletion stands even when that
/// fails: the next sweep tries again.
pub(in crate::store) async fn after_deletion(store: &Store, what: &'static str, blobs: &[Sha256]) {
    match release(store, blobs).await {
        Ok(removed) => tracing::info!(what, removed, "stored files were removed"),
        Err(error) => tracing::error!(what, %error, "stored files were left to the next sweep"),
    }
}

/// Sweeps at once and then every so often, until `shutdown`.
pub async fn now_and_then(store: Store, every: Duration, keep: Keep, shutdown: CancellationToken) {
    let sweeping = async {
        loop {
            match sweep(&store, &keep).await {
                Ok(Swept { blobs: 0, leftovers: 0 }) => {}
                Ok(Swept { blobs, leftovers }) => {
                    tracing::info!(blobs, leftovers, "files that nothing named were removed");
                }
                Err(error) => tracing::warn!(%error, "the stored files were not swept"),
            }
            tokio::time::sleep(every).await;
        }
    };
    tokio::select! {
        () = sweeping => {}
        () = shutdown.cancelled() => {}
    }
}

/// Removes every blob that no row names, every row that nothing needs, and what unfinished writes
/// left, unless it is younger than `keep` says.
pub async fn sweep(store: &Store, keep: &Keep) -> Result<Swept, OwnerError> {
    owner::insist(store, &keep.owner).await?;
    purge(&store.pool, keep.checkpoints).await?;
    let is_old = |modified: SystemTime| {
        // A time yet to come is that of a clock that was set back since.
        SystemTime::now().duration_since(modified).is_ok_and(|age| age >= keep.grace)
    };
    let mut swept = Swept::default();
    let mut old = Vec::new();
    let mut listed = store.blobs.list();
    while let Some(found) = listed.next().await {
        let found = found?;
        if is_old(found.modified) {
            old.push(found.blob.sha256);
        }
        if old.len() == BATCH {
            swept.blobs += release(store, &old).await?;
            old.clear();
        }
    }
    swept.blobs += release(store, &old).await?;
    for (path, modified) in store.blobs.leftovers().await? {
        if is_old(modified) && remove(&path)? {
            swept.leftovers += 1;
        }
    }
    Ok(swept)
}

/// Deletes rows that only a crash or an earlier version can have left.
async fn purge(pool: &PgPool, checkpoints: Duration) -> Result<(), StoreError> {
    sqlx::query(
        "delete from checkpoints c using runs r
         where r.id = c.run_id
           and (r.status = 'succeeded'
                or (r.status in ('failed', 'cancelled') and r.finished_at < now() - $1))",
    )
    .bind(checkpoints)
    .execute(pool)
    .await?;
    // A deleted image is kept for the versions that hold it, and for nothing else.
    sqlx::query(
        "delete from images i
         where i.deleted_at is not null
           and not exists (select 1 from version_images v where v.image_id = i.id)
           and not exists (select 1 from predictions p where p.image_id = i.id)",
    )
    .execute(pool)
    .await?;
    sqlx::query(
        "delete from features f
         where not exists (select 1 from images i where i.blob = f.blob)
            or not exists (select 1 from backbones b
                           where b.weights_sha256 = f.backbone_sha256 and b.deleted_at is null)",
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Whether it was there to be removed.
fn remove(path: &Path) -> Result<bool, StoreError> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error.into()),
    }
}
