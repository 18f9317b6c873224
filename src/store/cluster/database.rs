//! The database that is used: the configured one, or the built-in cluster of the data folder.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;

use tokio_util::sync::CancellationToken;

use super::postgres::{Cluster, ClusterError, running_url};
use crate::config::Storage;
use crate::store::error::StoreError;

/// The longest that a server which is starting is waited for.
const START: Duration = Duration::from_secs(5);

/// A database that can be connected to for as long as this lives.
#[derive(Debug)]
pub struct Database {
    url: String,
    cluster: Option<Cluster>,
    built_in: bool,
}

/// The reason why there is no database.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The data folder could not be made.
    #[error("the data folder {folder} cannot be made: {source}")]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },
    /// There is no data folder, and none was to be made.
    #[error(
        "there is no data folder {0}. Name the server's with --data or LVMED_DATA; a new one is made \
         by `lvmed serve` and by `lvmed migrate --init`"
    )]
    NoFolder(PathBuf),
    /// The folder has no cluster, and none was to be made.
    #[error(
        "the data folder {0} has no built-in database. If its server uses another one, set \
         DATABASE_URL to that; a built-in one is made by `lvmed serve` and by `lvmed migrate --init`"
    )]
    NoCluster(PathBuf),
    /// The folder's server uses another database, or is not yet up.
    #[error(
        "a server runs on the data folder {0}, but not its built-in database. Set DATABASE_URL as \
         the server has it, or try again when the server has started"
    )]
    OtherDatabase(PathBuf),
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
    /// folder runs is used as it is, and none is made unless that was asked for: what a command did
    /// to it the server that was meant would never know.
    ///
    /// Like [`Cluster::start`], to be called from a thread that lives as long as the process.
    pub async fn open(storage: &Storage, absent: Absent) -> Result<Self, DatabaseError> {
        if storage.database_url.is_none() {
            if absent == Absent::Refuse {
                insist_on_folder(storage)?;
            }
            let asked = Instant::now();
            loop {
                if let Some(url) = running_url(&storage.data).await {
                    return Ok(Self { url, cluster: None, built_in: true });
                }
                if !is_served(&storage.data) {
                    break;
                }
                if asked.elapsed() > START {
                    return Err(DatabaseError::OtherDatabase(whole(&storage.data)));
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            let cluster = storage.data.join("postgres/PG_VERSION");
            // That it cannot be looked at is told by whoever starts it.
            if absent == Absent::Refuse && matches!(cluster.try_exists(), Ok(false)) {
                return Err(DatabaseError::NoCluster(whole(&storage.data)));
            }
        }
        // A signal ends such a command at once, and the kernel ends its cluster then.
        Self::own(storage, &CancellationToken::new()).await
    }

    /// The place where it is, for people.
    pub fn place(&self) -> String {
        if self.built_in {
            let by = if self.cluster.is_some() { "no server runs" } else { "of a running server" };
            return format!("its built-in database ({by})");
        }
        let Ok(options) = PgConnectOptions::from_str(&self.url) else {
            return "the database of DATABASE_URL".to_owned();
        };
        // Never the password.
        let name = options.get_database().unwrap_or_else(|| options.get_username());
        let host = options.get_socket().map_or_else(
            || format!("{}:{}", options.get_host(), options.get_port()),
            |socket| socket.display().to_string(),
        );
        format!("the database {name:?} at {host} (DATABASE_URL)")
    }

    /// Whether the cluster that was started here has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.cluster.as_mut().is_some_and(Cluster::has_ended)
    }

    /// The address to connect to.
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

/// The behaviour of a command where there is no data folder, or no cluster in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// Makes it.
    Make,
    /// Ends with an error.
    Refuse,
}

/// Fails unless the data folder is there.
pub fn insist_on_folder(storage: &Storage) -> Result<(), DatabaseError> {
    if storage.data.is_dir() {
        return Ok(());
    }
    Err(DatabaseError::NoFolder(whole(&storage.data)))
}

/// The path from the root on, so that nobody wonders which folder it is.
pub fn whole(folder: &Path) -> PathBuf {
    std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned())
}

/// The file that a server holds a lock on for as long as it works on the folder.
pub fn server_lock(data: &Path) -> PathBuf {
    data.join("server.lock")
}

fn is_served(data: &Path) -> bool {
    let Ok(file) = std::fs::File::open(server_lock(data)) else { return false };
    // Let go of at once, with the file.
    let free = rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockShared);
    free.is_err()
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
