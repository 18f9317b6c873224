//! The state that every handler may use, and how much may go on at the same time.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, broadcast};
use tokio_util::sync::CancellationToken;

use crate::config::Limits;
use crate::decode::Pool;
use crate::domain::RunId;
use crate::http::wire::body::bounds::Most;
use crate::http::wire::standing::Standing;
use crate::http::wire::underway::Underway;
use crate::imaging::PatientHasher;
use crate::service::freeze::Freezer;
use crate::service::import::Importer;
use crate::service::intake::Intake;
use crate::service::predict::Predictor;
use crate::service::submit::Submitter;
use crate::store::Store;

/// The state that every handler may use.
#[derive(Clone)]
pub struct App {
    /// Rows and blobs.
    pub store: Store,
    /// Reads what strangers send.
    pub decoder: Pool,
    /// Imports backbones.
    pub importer: Importer,
    /// Takes uploads into datasets.
    pub intake: Intake,
    /// Freezes datasets.
    pub freezer: Freezer,
    /// Queues runs and estimates them.
    pub submitter: Submitter,
    /// Answers for pictures.
    pub predictor: Predictor,
    /// Makes the keys that uploaded files are found by.
    pub hasher: PatientHasher,
    /// Every external size.
    pub limits: Arc<Limits>,
    /// Tells which runs change.
    pub changes: broadcast::Sender<RunId>,
    /// Renders the metrics.
    pub metrics: metrics_exporter_prometheus::PrometheusHandle,
    /// Folder for uploads in flight, on the disk of the data folder.
    pub spool: PathBuf,
    /// Whether Postgres is the built-in cluster.
    pub built_in_database: bool,
    /// Whether the server listens on loopback only; then it serves without a key until one exists.
    pub loopback: bool,
    /// Cancelled when the server begins to stop: event streams end, readiness is over.
    pub stopping: CancellationToken,
    /// The limits on how much may go on at the same time.
    pub gates: Gates,
    /// The keys that have ended, for what is long under way.
    pub standing: Standing,
    /// The progress of the uploads that go on now.
    pub underway: Underway,
}

impl App {
    /// The bounds of an upload.
    pub(crate) fn upload_bounds(&self) -> Most {
        Most {
            bytes: self.limits.upload_bytes,
            setting: "LVMED_LIMIT_UPLOAD_BYTES",
            idle: Duration::from_secs(self.limits.upload_idle_seconds),
        }
    }
}

/// The limits on how much may go on at the same time.
#[derive(Debug, Clone)]
pub struct Gates {
    /// Uploads being taken in.
    pub uploads: Arc<Semaphore>,
    /// Open event streams.
    pub event_streams: Arc<Semaphore>,
    /// Previews being rendered; further ones wait.
    pub previews: Arc<Semaphore>,
}

impl Gates {
    /// Gates as wide as the limits say.
    pub fn new(limits: &Limits) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            uploads: Arc::new(Semaphore::new(limits.uploads)),
            event_streams: Arc::new(Semaphore::new(limits.event_streams)),
            previews: Arc::new(Semaphore::new(cores)),
        }
    }
}
