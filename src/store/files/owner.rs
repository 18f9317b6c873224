//! The database that a data folder belongs to, so that a sweep never takes the files of one for the
//! leftovers of another.

use std::io::Write;
use std::path::{Path, PathBuf};

use futures_util::StreamExt;
use sqlx::Row;

use crate::store::Store;
use crate::store::error::StoreError;

/// The reason why blobs are not swept.
#[derive(Debug, thiserror::Error)]
pub enum OwnerError {
    /// The folder was used with another database.
    #[error(
        "the data folder belongs to another database than this one ({path} names it); nothing is \
         swept. If this database is the right one, remove that file"
    )]
    Other {
        /// The file that says so.
        path: PathBuf,
    },
    /// The folder holds files, the database has never seen any.
    #[error(
        "the data folder holds stored files, but this database has never named one; nothing is \
         swept. Is DATABASE_URL the one that the folder was used with?"
    )]
    Stranger,
    /// The file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Insists that the folder belongs to this database. `path` is the file that names the database; it
/// is made for a folder without blobs, and for a database that something was kept in before.
pub async fn insist(store: &Store, path: &Path) -> Result<(), OwnerError> {
    let row = sqlx::query(
        "select store_id::text as id,
             exists (select 1 from datasets) or exists (select 1 from backbones)
                 or exists (select 1 from runs) as used
         from server",
    )
    .fetch_one(&store.pool)
    .await
    .map_err(StoreError::from)?;
    let id: String = row.try_get("id").map_err(StoreError::from)?;
    match std::fs::read_to_string(path) {
        Ok(found) if found.trim() == id => return Ok(()),
        Ok(_) => return Err(OwnerError::Other { path: path.to_owned() }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(source) => return Err(OwnerError::File { path: path.to_owned(), source }),
    }
    let used: bool = row.try_get("used").map_err(StoreError::from)?;
    if !used && store.blobs.list().next().await.is_some() {
        return Err(OwnerError::Stranger);
    }
    write(path, &id).map_err(|source| OwnerError::File { path: path.to_owned(), source })
}

/// Whole or not at all.
fn write(path: &Path, id: &str) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    writeln!(file, "{id}")?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}
