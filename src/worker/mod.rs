//! The worker process: leases runs, executes them, and is replaceable at any moment.

mod execute;
mod host;
mod prepare;
mod pretraining;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::domain::{RunId, WorkerId};
use crate::estimate::Estimator;
use crate::inference::Runtime;
use crate::store::{self, Blobs, Store, database, events, queue};

/// Names the worker when the server started it, so that the server can let go of its runs.
pub const WORKER_ID: &str = "LVMED_WORKER_ID";
/// Names the process id of the server that started it; a worker does not outlive it.
pub const SUPERVISOR: &str = "LVMED_SUPERVISOR";
/// The longest that a queued run goes unnoticed when a notification was lost.
const POLL: Duration = Duration::from_secs(2);

/// What a worker works with.
#[derive(Clone)]
struct Worker {
    id: WorkerId,
    /// Folder of its temporary files, its alone.
    scratch: PathBuf,
    config: Arc<Config>,
    store: Store,
    runtime: Runtime,
    /// What training steps cost here.
    estimator: Estimator,
    /// Cancelled when the process is asked to end.
    ending: CancellationToken,
}

/// Works until the process is asked to end.
pub async fn run(config: Config) -> anyhow::Result<()> {
    follow_supervisor()?;
    let url = config.storage.database_url.as_deref().context(
        "a worker needs DATABASE_URL; `lvmed serve` starts its own workers and gives it to them",
    )?;
    database::insist_on_folder(&config.storage)?;
    let pool = store::connect(url, config.storage.database_connections).await?;
    let blobs = Blobs::local(&config.storage.blobs())?;
    let id = own_id()?;
    let is_supervised = std::env::var_os(SUPERVISOR).is_some();
    let parent =
        if is_supervised { config.storage.server_scratch() } else { config.storage.scratch() };
    let scratch = parent.join(format!("worker-{id}"));
    std::fs::create_dir_all(&scratch)?;
    let worker = Worker {
        id,
        scratch: scratch.clone(),
        runtime: Runtime::load(&config.compute)?,
        estimator: Estimator::default(),
        config: Arc::new(config),
        store: Store { pool, blobs },
        ending: CancellationToken::new(),
    };
    cancel_on_signal(worker.ending.clone())?;
    let changes = events::listen(worker.store.pool.clone());
    tracing::info!(worker = %worker.id, threads = worker.config.compute.threads(), "worker ready");
    worker.work(changes.subscribe()).await;
    // That it is left behind harms nobody.
    let _ = std::fs::remove_dir_all(&scratch);
    tracing::info!(worker = %worker.id, "worker ended");
    Ok(())
}

impl Worker {
    async fn work(&self, mut changes: tokio::sync::broadcast::Receiver<RunId>) {
        while !self.ending.is_cancelled() {
            match self.next().await {
                Ok(Some(run)) => {
                    let id = run.id;
                    tracing::info!(run = %id, attempt = run.attempt, "run started");
                    self.execute(run).await;
                }
                Ok(None) => {
                    tokio::select! {
                        () = self.ending.cancelled() => {}
                        _ = changes.recv() => {}
                        () = tokio::time::sleep(POLL) => {}
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "the queue cannot be read");
                    tokio::time::sleep(POLL).await;
                }
            }
        }
    }

    async fn next(&self) -> Result<Option<queue::Claimed>, store::StoreError> {
        let pool = &self.store.pool;
        queue::reap(pool).await?;
        queue::claim(pool, self.id, self.lease(), self.config.compute.threads()).await
    }

    fn lease(&self) -> Duration {
        Duration::from_secs(self.config.lease_seconds)
    }
}

fn own_id() -> anyhow::Result<WorkerId> {
    match std::env::var(WORKER_ID) {
        Ok(text) => text.parse().with_context(|| format!("{WORKER_ID} is not an id")),
        Err(_) => Ok(WorkerId::new()),
    }
}

/// Has the kernel end this process when the server that started it dies.
fn follow_supervisor() -> anyhow::Result<()> {
    let Ok(supervisor) = std::env::var(SUPERVISOR) else { return Ok(()) };
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))?;
    // It may have died before the line above.
    let parent = rustix::process::getppid().map(|parent| parent.as_raw_nonzero().to_string());
    anyhow::ensure!(parent == Some(supervisor), "the server that started this worker is gone");
    Ok(())
}

/// Cancels `ending` when the process is asked to end, by a signal or from the terminal.
pub(crate) fn cancel_on_signal(ending: CancellationToken) -> anyhow::Result<()> {
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
        ending.cancel();
    });
    Ok(())
}
