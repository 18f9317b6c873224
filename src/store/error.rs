//! The failures between the program and what it stores.

use crate::domain::Sha256;

/// The advice about a stored file that is lost or damaged.
const HEALING: &str = "Upload or import the same file again, or restore it from a backup; \
                       `lvmed check` lists every file that is not what it should be";

/// A failure of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Postgres could not be asked, or refused.
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),
    /// The schema could not be brought up to date.
    #[error("the database schema could not be migrated: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// The blob store failed.
    #[error("the blob store failed: {0}")]
    Blobs(object_store::Error),
    /// No room is left where blobs are kept.
    #[error("the disk of the data folder is full")]
    Full,
    /// A blob that a row refers to is not there.
    #[error("the stored file {0} is missing. {HEALING}")]
    MissingBlob(Sha256),
    /// A blob has another content than its name says.
    #[error("the stored file {0} is damaged: its content has another SHA-256. {HEALING}")]
    DamagedBlob(Sha256),
    /// The thing that was to be used was deleted since it was looked up.
    #[error("{0} was deleted meanwhile")]
    Gone(&'static str),
    /// A file could not be read or written.
    #[error("{0}")]
    Io(std::io::Error),
    /// The thing is in use and cannot be removed.
    #[error("{what} is used by {by}")]
    InUse {
        /// The thing that was to be removed.
        what: &'static str,
        /// The thing that uses it.
        by: String,
    },
    /// Another thing has the name already.
    #[error("the name {0:?} is already taken")]
    NameTaken(String),
    /// Without it nobody could make keys any more, now or as soon as the others expire.
    #[error(
        "it is the last admin key, or the one that lasts longest; make another one before you revoke it"
    )]
    LastAdmin,
    /// The caller sent the Idempotency-Key before, with another body.
    #[error(
        "this Idempotency-Key was sent before with another body; send a new key with a new request"
    )]
    KeyReused,
    /// The run was taken over by another worker, or has ended.
    #[error("the lease of the run was lost")]
    LeaseLost,
    /// Somebody asked the run to stop, so that it publishes nothing any more.
    #[error("the run was asked to stop")]
    CancelRequested,
}

impl StoreError {
    /// Whether a stored file is lost or damaged: trying again helps nobody before it is restored.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::MissingBlob(_) | Self::DamagedBlob(_))
    }
}

impl From<std::io::Error> for StoreError {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::Full,
            _ => Self::Io(error),
        }
    }
}

impl From<object_store::Error> for StoreError {
    fn from(error: object_store::Error) -> Self {
        let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        while let Some(cause) = source {
            if let Some(io) = cause.downcast_ref::<std::io::Error>()
                && matches!(
                    io.kind(),
                    std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
                )
            {
                return Self::Full;
            }
            source = cause.source();
        }
        Self::Blobs(error)
    }
}
