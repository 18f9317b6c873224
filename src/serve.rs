//! `lvmed serve`: database, routes and workers from start to an orderly stop.

mod foundation;
mod listeners;
mod running;
mod supervised;

use std::ffi::OsString;
use std::time::Duration;

use anyhow::Context;
use tokio_util::sync::CancellationToken;

use self::supervised::Supervised;
use crate::config::Config;
use crate::inference::Runtime;
use crate::store::{Database, database};
use crate::worker;

pub use self::foundation::Foundation;
pub use self::running::Running;

/// Time between two looks at the built-in cluster.
const CLUSTER_CHECK: Duration = Duration::from_millis(500);

/// Serves until SIGTERM or an interrupt. `arguments` are those of the command line after `serve`;
/// workers are started with the same ones.
///
/// To be polled from a thread that lives as long as the process: children are told by the kernel
/// to end when the thread that started them does.
pub async fn run(config: Config, arguments: Vec<OsString>) -> anyhow::Result<()> {
    // Before anything is started that would have to be stopped again.
    let stopping = CancellationToken::new();
    worker::cancel_on_signal(stopping.clone())?;
    database::make_folder(&config.storage.data)?;
    let _lock = lock(&config)?;
    let program = std::env::current_exe()?;
    let runtime = Runtime::load(&config.compute)?;
    let owned = Database::own(&config.storage, &stopping).await;
    if stopping.is_cancelled() {
        // What was started of it ends as it is dropped.
        drop(owned);
        tracing::info!("stopped while it was starting");
        return Ok(());
    }
    let mut database = owned?;
    let foundation = Foundation {
        config: &config,
        program,
        runtime,
        database_url: database.url().to_owned(),
        is_built_in: database.is_built_in(),
        stopping,
    };
    let result = tokio::select! {
        result = serve(&foundation, &arguments) => result,
        // Dropping the other branch kills the workers: without a database they can do nothing.
        () = end_of(&mut database) => Err(anyhow::anyhow!(
            "the built-in Postgres ended by itself; {} may say why. Start the server again",
            config.storage.data.join("postgres.log").display()
        )),
    };
    database.stop();
    result
}

/// Returns when the built-in cluster has ended by itself; never, where there is none.
async fn end_of(database: &mut Database) {
    while !database.has_ended() {
        tokio::time::sleep(CLUSTER_CHECK).await;
    }
}

async fn serve(foundation: &Foundation<'_>, arguments: &[OsString]) -> anyhow::Result<()> {
    let (config, stopping) = (foundation.config, &foundation.stopping);
    let running = tokio::select! {
        running = foundation.start() => running?,
        () = stopping.cancelled() => {
            tracing::info!("stopped while it was starting");
            return Ok(());
        }
    };
    let patience = Duration::from_secs(config.shutdown_seconds);
    let workers = (0..config.workers).map(|_| Supervised {
        arguments,
        database_url: &foundation.database_url,
        pool: running.pool(),
        shutdown: stopping,
        lease: Duration::from_secs(config.lease_seconds),
        patience,
    });
    // In this task and not in tasks of their own: children belong to the thread that starts them.
    futures_util::future::join_all(workers.map(Supervised::keep_alive)).await;
    stopping.cancelled().await;
    running.end(patience).await?;
    tracing::info!("stopped");
    Ok(())
}

/// One server a data folder: two would fight over the cluster and the files in flight.
fn lock(config: &Config) -> anyhow::Result<std::fs::File> {
    let path = database::server_lock(&config.storage.data);
    let file = std::fs::File::create(&path)
        .with_context(|| format!("the data folder cannot be written: {}", path.display()))?;
    let lock = || rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive);
    let locked = lock().or_else(|_| {
        // A command may just look whether a server runs, which takes no time.
        std::thread::sleep(Duration::from_millis(100));
        lock()
    });
    locked.with_context(|| {
        format!("another server runs on the data folder {}", config.storage.data.display())
    })?;
    Ok(file)
}
