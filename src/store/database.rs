//! Which database is used: the configured one, or the built-in cluster of the data folder.

use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use super::StoreError;
use super::postgres::{Cluster, ClusterError, running_url};
use crate::config::Storage;

/// A database that can be connected to for as long as this lives.
#[derive(Debug)]
pub struct Database {
    url: String,
    cluster: Option<Cluster>,
    built_in: bool,
}

/// Why there is no database.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The data folder could not be made.
    #[error("the data folder {folder} cannot be made: {source}")]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The built-in cluster does not run.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The database could not be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Database {
    /// For a server: the configured database, else the built-in cluster, started here and stopped
    /// when this is dropped. A command that runs the cluster for a moment is waited for.
    ///
    /// Like [`Cluster::start`], to be called from a thread that lives as long as the process, and given
    /// up with everything stopped once `stopping` is cancelled.
    pub async fn own(
        storage: &Storage,
        stopping: &CancellationToken,
    ) -> Result<Self, DatabaseError> {
        if let Some(url) = &storage.database_url {
            return Ok(Self { url: url.clone(), cluster: None, built_in: false });
        }
        make_folder(&storage.data)?;
        let cluster = Cluster::start_unless(&storage.data, storage.pg_bin.as_deref(), stopping)?;
        // Dropped, the cluster is stopped.
        let url = tokio::select! {
            url = cluster.database_url() => url?,
            () = stopping.cancelled() => return Err(ClusterError::Stopped.into()),
        };
        Ok(Self { url, cluster: Some(cluster), built_in: true })
    }

    /// For a short command: like [`Database::own`], but the cluster that a server of this data
    /// folder runs is used as it is.
    ///
    /// Like [`Cluster::start`], to be called from a thread that lives as long as the process.
    pub async fn open(storage: &Storage) -> Result<Self, DatabaseError> {
        if storage.database_url.is_none()
            && let Some(url) = running_url(&storage.data).await
        {
            return Ok(Self { url, cluster: None, built_in: true });
        }
        // A signal ends such a command at once, and the kernel ends its cluster then.
        Self::own(storage, &CancellationToken::new()).await
    }

    /// Whether the cluster that was started here has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.cluster.as_mut().is_some_and(Cluster::has_ended)
    }

    /// Where to connect.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether it is the built-in cluster.
    pub fn is_built_in(&self) -> bool {
        self.built_in
    }

    /// Stops the cluster, if it was started here. Blocks until it has ended.
    pub fn stop(mut self) {
        if let Some(cluster) = &mut self.cluster {
            cluster.stop();
        }
    }
}

/// Makes the data folder. Others may pass through it, as the cluster's user must, but not list it.
pub fn make_folder(folder: &Path) -> Result<(), DatabaseError> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(folder)
        .map_err(|source| DatabaseError::Folder { folder: folder.to_owned(), source })
}
