//! `lvmed serve`: database, routes and workers from start to an orderly stop.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::domain::WorkerId;
use crate::estimate::Estimator;
use crate::http::underway::Underway;
use crate::http::{App, Gates, router};
use crate::imaging::PatientHasher;
use crate::import::Importer;
use crate::inference::{Registry, Runtime};
use crate::store::{self, Blobs, Database, Store, database, events, keys, queue, secret};
use crate::{telemetry, worker};

/// Pause before a worker that died is replaced; doubled for each death in a row.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Time between two looks at the queue for runs that nobody works on.
const REAPING: Duration = Duration::from_secs(10);
/// Time between two looks at the built-in cluster.
const CLUSTER_CHECK: Duration = Duration::from_millis(500);
/// A worker that lived this long did not die in a row.
const STEADY: Duration = Duration::from_mins(1);

/// Serves until SIGTERM or an interrupt. `arguments` are those of the command line after `serve`;
/// workers are started with the same ones.
///
/// To be polled from a thread that lives as long as the process: children are told by the kernel
/// to end when the thread that started them does.
pub async fn run(config: Config, arguments: Vec<OsString>) -> anyhow::Result<()> {
    database::make_folder(&config.storage.data)?;
    let _lock = lock(&config)?;
    let runtime = Runtime::load(&config.compute)?;
    let mut database = Database::own(&config.storage).await?;
    let connection =
        Connection { url: database.url().to_owned(), is_built_in: database.is_built_in() };
    let result = tokio::select! {
        result = serve(&config, arguments, runtime, &connection) => result,
        // Dropping the other branch kills the workers: without a database they can do nothing.
        () = end_of(&mut database) => Err(anyhow::anyhow!(
            "the built-in Postgres ended by itself; {} may say why. Start the server again",
            config.storage.data.join("postgres.log").display()
        )),
    };
    database.stop();
    result
}

/// How to reach the database.
struct Connection {
    url: String,
    is_built_in: bool,
}

/// Returns when the built-in cluster has ended by itself; never, where there is none.
async fn end_of(database: &mut Database) {
    while !database.has_ended() {
        tokio::time::sleep(CLUSTER_CHECK).await;
    }
}

async fn serve(
    config: &Config,
    arguments: Vec<OsString>,
    runtime: Runtime,
    database: &Connection,
) -> anyhow::Result<()> {
    let pool = store::connect(&database.url, config.storage.database_connections).await?;
    refuse_exposure(config, &pool).await?;
    let app = app(config, runtime, database, pool.clone()).await?;
    let shutdown = app.stopping.clone();
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("cannot listen on {}", config.listen))?;
    announce(config, database, listener.local_addr()?, &pool).await?;
    let served = axum::serve(listener, router(app))
        .with_graceful_shutdown(shutdown.clone().cancelled_owned());
    let served = tokio::spawn(async move { served.await });
    worker::cancel_on_signal(shutdown.clone())?;
    tokio::spawn(reap_now_and_then(pool.clone(), shutdown.clone()));

    let workers = (0..config.workers).map(|_| Supervised {
        arguments: &arguments,
        database_url: &database.url,
        pool: &pool,
        shutdown: &shutdown,
        patience: Duration::from_secs(config.shutdown_seconds),
    });
    // In this task and not in tasks of their own: children belong to the thread that starts them.
    futures_util::future::join_all(workers.map(Supervised::keep_alive)).await;
    shutdown.cancelled().await;
    let patience = Duration::from_secs(config.shutdown_seconds);
    match tokio::time::timeout(patience, served).await {
        Ok(ended) => ended??,
        Err(_) => tracing::warn!("some requests did not finish in time and were dropped"),
    }
    pool.close().await;
    tracing::info!("stopped");
    Ok(())
}

async fn app(
    config: &Config,
    runtime: Runtime,
    database: &Connection,
    pool: sqlx::PgPool,
) -> anyhow::Result<App> {
    let storage = &config.storage;
    let blobs = Blobs::local(&storage.blobs())?;
    make_private(&storage.blobs())?;
    let scratch = storage.server_scratch();
    // What an earlier server and its workers left in flight is of no use to anybody.
    if scratch.exists() {
        std::fs::remove_dir_all(&scratch)?;
    }
    std::fs::create_dir_all(&scratch)?;
    make_private(&scratch)?;
    let secret = secret::load(&pool, &storage.secret()).await?;
    let store = Store { pool: pool.clone(), blobs };
    let threads = config.compute.threads();
    Ok(App {
        registry: Registry::new(runtime.clone(), &config.compute, &config.limits),
        importer: Importer::new(store.clone(), runtime, scratch.clone(), threads),
        store,
        hasher: PatientHasher::new(secret),
        limits: Arc::new(config.limits.clone()),
        estimator: Estimator::default(),
        threads,
        changes: events::listen(pool),
        metrics: telemetry::start_metrics().context("metrics cannot be recorded")?,
        spool: scratch,
        built_in_database: database.is_built_in,
        loopback: config.listen.ip().is_loopback(),
        stopping: CancellationToken::new(),
        gates: Gates::new(&config.limits),
        underway: Underway::default(),
    })
}

/// One server a data folder: two would fight over the cluster and the files in flight.
fn lock(config: &Config) -> anyhow::Result<std::fs::File> {
    let path = config.storage.data.join("server.lock");
    let file = std::fs::File::create(&path)
        .with_context(|| format!("the data folder cannot be written: {}", path.display()))?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).with_context(
        || format!("another server runs on the data folder {}", config.storage.data.display()),
    )?;
    Ok(file)
}

/// Others on the machine may not look into it.
fn make_private(folder: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))
}

async fn refuse_exposure(config: &Config, pool: &sqlx::PgPool) -> anyhow::Result<()> {
    anyhow::ensure!(
        config.listen.ip().is_loopback() || keys::any(pool).await?,
        "refusing to listen on {} without authentication: make a key first with \
         `lvmed key create --role admin --name NAME`, or listen on 127.0.0.1",
        config.listen
    );
    Ok(())
}

async fn announce(
    config: &Config,
    database: &Connection,
    address: SocketAddr,
    pool: &sqlx::PgPool,
) -> anyhow::Result<()> {
    let data = config.storage.data.display();
    let postgres = if database.is_built_in { "the built-in cluster" } else { "DATABASE_URL" };
    tracing::info!("data folder {data}, Postgres from {postgres}");
    if !keys::any(pool).await? {
        tracing::info!("no API key exists: everybody on this machine may use the server");
    }
    tracing::info!("listening on http://{address}");
    Ok(())
}

/// Ends runs that nobody works on any more, even while every worker is busy.
async fn reap_now_and_then(pool: sqlx::PgPool, shutdown: CancellationToken) {
    while !shutdown.is_cancelled() {
        if let Err(error) = queue::reap(&pool).await {
            tracing::warn!(%error, "the queue cannot be looked through");
        }
        tokio::select! {
            () = tokio::time::sleep(REAPING) => {}
            () = shutdown.cancelled() => {}
        }
    }
}

/// A worker process that is replaced when it dies.
struct Supervised<'a> {
    arguments: &'a [OsString],
    database_url: &'a str,
    pool: &'a sqlx::PgPool,
    shutdown: &'a CancellationToken,
    patience: Duration,
}

impl Supervised<'_> {
    async fn keep_alive(self) {
        let mut pause = FIRST_PAUSE;
        while !self.shutdown.is_cancelled() {
            let id = WorkerId::new();
            let started = std::time::Instant::now();
            match self.start(id) {
                Ok(mut worker) => {
                    let status = tokio::select! {
                        status = worker.wait() => status,
                        () = self.shutdown.cancelled() => {
                            self.end(id, &mut worker).await;
                            return;
                        }
                    };
                    self.mourn(id, status.ok()).await;
                }
                Err(error) => tracing::error!(%error, "a worker cannot be started"),
            }
            pause = if started.elapsed() > STEADY { FIRST_PAUSE } else { pause };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.shutdown.cancelled() => {}
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn start(&self, id: WorkerId) -> std::io::Result<Child> {
        Command::new(std::env::current_exe()?)
            .arg("worker")
            .args(self.arguments)
            .env("DATABASE_URL", self.database_url)
            .env(worker::WORKER_ID, id.to_string())
            .env(worker::SUPERVISOR, std::process::id().to_string())
            // An interrupt typed at the terminal is for the server, which stops its workers.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
    }

    async fn mourn(&self, id: WorkerId, status: Option<ExitStatus>) {
        let status = status.map_or("unknown status".to_owned(), |status| status.to_string());
        tracing::warn!(worker = %id, status, "a worker died");
        if let Err(error) = queue::orphan(self.pool, id).await {
            tracing::warn!(worker = %id, %error, "its run waits for the lease to end");
        }
    }

    /// Asks a worker to checkpoint and end, and insists when the time is up.
    async fn end(&self, id: WorkerId, worker: &mut Child) {
        let process = worker.id().and_then(|id| i32::try_from(id).ok());
        if let Some(process) = process.and_then(rustix::process::Pid::from_raw) {
            // That it ended in between is no error.
            let _ = rustix::process::kill_process(process, rustix::process::Signal::TERM);
        }
        if tokio::time::timeout(self.patience, worker.wait()).await.is_err() {
            tracing::warn!("a worker did not end in time and was killed");
            let _ = worker.kill().await;
            self.mourn(id, None).await;
        }
    }
}
