//! The worker process: leases runs, executes them, and is replaceable at any moment.

mod execute;
mod files;
mod finetune;
mod host;
mod prepare;
mod pretrain;
mod replay;

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::domain::{RunId, WorkerId};
use crate::estimate::{self, Estimator};
use crate::inference::Runtime;
use crate::store::{self, Blobs, Store, database, events, queue};

/// Names the worker when the server started it, so that the server can let go of its runs.
pub const WORKER_ID: &str = "LVMED_WORKER_ID";
/// Names the process id of the server that started it; a worker does not outlive it. Its standard
/// input is a socket then, on which it tells that it is alive.
pub const SUPERVISOR: &str = estimate::PARENT;
/// The time between two signs of life; less where the lease is short.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);
/// The longest that a queued run goes unnoticed when a notification was lost.
const POLL: Duration = Duration::from_secs(2);

/// The tools of a worker.
#[derive(Clone)]
struct Worker {
    id: WorkerId,
    /// Folder of its temporary files, its alone.
    scratch: PathBuf,
    config: Arc<Config>,
    store: Store,
    runtime: Runtime,
    /// The estimator of the cost of training steps here.
    estimator: Estimator,
    /// Cancelled when the process is asked to end.
    ending: CancellationToken,
}

/// Works until the process is asked to end.
pub async fn run(config: Config) -> anyhow::Result<()> {
    // Before anything is made that would have to be cleared away.
    let ending = CancellationToken::new();
    cancel_on_signal(ending.clone())?;
    follow_supervisor()?;
    tell_signs_of_life(&config)?;
    work(config, std::env::current_exe()?, ending).await
}

/// Works until `ending` is cancelled. `program` is this one, whose children measure.
pub async fn work(
    config: Config,
    program: PathBuf,
    ending: CancellationToken,
) -> anyhow::Result<()> {
    let worker = tokio::select! {
        worker = start(config, program, ending.clone()) => worker?,
        () = ending.cancelled() => return Ok(()),
    };
    let changes = events::listen(worker.store.pool.clone());
    tracing::info!(worker = %worker.id, threads = worker.config.compute.threads(), "worker ready");
    worker.work(changes.subscribe()).await;
    // That it is left behind harms nobody.
    let _ = std::fs::remove_dir_all(&worker.scratch);
    tracing::info!(worker = %worker.id, "worker ended");
    Ok(())
}

/// Connects to what a worker needs.
async fn start(
    config: Config,
    program: PathBuf,
    ending: CancellationToken,
) -> anyhow::Result<Worker> {
    let storage = &config.storage;
    let url = storage.database_url.as_deref().context(
        "a worker needs DATABASE_URL; `lvmed serve` starts its own workers and gives it to them",
    )?;
    database::insist_on_folder(storage)?;
    let pool = store::connect(url, storage.database_connections).await?;
    let blobs = Blobs::local(&storage.blobs())?;
    let id = own_id()?;
    let is_supervised = std::env::var_os(SUPERVISOR).is_some();
    let parent = if is_supervised { storage.server_scratch() } else { storage.scratch() };
    let scratch = parent.join(format!("worker-{id}"));
    std::fs::create_dir_all(&scratch)?;
    Ok(Worker {
        id,
        scratch,
        runtime: Runtime::load(&config.compute)?,
        estimator: Estimator::new(pool.clone(), program, storage.measuring(), ending.clone()),
        config: Arc::new(config),
        store: Store { pool, blobs },
        ending,
    })
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

/// Has the kernel end this process when the process that started it dies, where one is named.
pub(crate) fn follow_supervisor() -> anyhow::Result<()> {
    let Ok(supervisor) = std::env::var(SUPERVISOR) else { return Ok(()) };
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))?;
    // It may have died before the line above.
    let parent = rustix::process::getppid().map(|parent| parent.as_raw_nonzero().to_string());
    anyhow::ensure!(parent == Some(supervisor), "the process that started this one is gone");
    Ok(())
}

/// Writes to the supervisor, where there is one, for as long as this process runs. One that hangs as a
/// whole, or is stopped, writes nothing, and is replaced when its lease would be over.
fn tell_signs_of_life(config: &Config) -> anyhow::Result<()> {
    if std::env::var_os(SUPERVISOR).is_none() {
        return Ok(());
    }
    let socket = std::io::stdin().as_fd().try_clone_to_owned()?;
    let socket = std::os::unix::net::UnixStream::from(socket);
    socket.set_nonblocking(true)?;
    let socket = tokio::net::UnixStream::from_std(socket)?;
    let pause = SIGN_OF_LIFE.min(Duration::from_secs(config.lease_seconds) / 4);
    tokio::spawn(async move {
        // A supervisor that does not listen any more, or not now, is no reason to stop.
        while socket.writable().await.is_ok() {
            let _ = socket.try_write(b".");
            tokio::time::sleep(pause).await;
        }
    });
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
