//! `lvmed serve`: database, routes and workers from start to an orderly stop.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, UnixStream};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::decode::Pool;
use crate::domain::WorkerId;
use crate::estimate::Estimator;
use crate::http::wire::listen::{self, Purpose};
use crate::http::wire::standing::Standing;
use crate::http::wire::underway::Underway;
use crate::http::{App, Gates, router};
use crate::imaging::PatientHasher;
use crate::inference::{Registry, Runtime};
use crate::service::freeze::Freezer;
use crate::service::import::Importer;
use crate::service::intake::Intake;
use crate::service::predict::Predictor;
use crate::service::submit::{Machine, Submitter};
use crate::store::{self, Blobs, Database, Store, database, events, keys, queue, secret, sweep};
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
    // Before anything is started that would have to be stopped again.
    let stopping = CancellationToken::new();
    worker::cancel_on_signal(stopping.clone())?;
    database::make_folder(&config.storage.data)?;
    let _lock = lock(&config)?;
    let runtime = Runtime::load(&config.compute)?;
    let owned = Database::own(&config.storage, &stopping).await;
    if stopping.is_cancelled() {
        // What was started of it ends as it is dropped.
        drop(owned);
        tracing::info!("stopped while it was starting");
        return Ok(());
    }
    let mut database = owned?;
    let connection =
        Connection { url: database.url().to_owned(), is_built_in: database.is_built_in() };
    let result = tokio::select! {
        result = serve(&config, arguments, runtime, (&connection, &stopping)) => result,
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
    (database, shutdown): (&Connection, &CancellationToken),
) -> anyhow::Result<()> {
    let started = tokio::select! {
        started = start(config, runtime, (database, shutdown)) => started?,
        () = shutdown.cancelled() => {
            tracing::info!("stopped while it was starting");
            return Ok(());
        }
    };
    let (listeners, app) = started;
    let (pool, decoder) = (app.store.pool.clone(), app.decoder.clone());
    let sweeping = sweep::now_and_then(
        app.store.clone(),
        Duration::from_secs(config.sweep_seconds),
        kept_by_sweeps(config),
        shutdown.clone(),
    );
    tokio::spawn(sweeping);
    let served = tokio::spawn(listeners.serve(app));
    tokio::spawn(reap_now_and_then(pool.clone(), shutdown.clone()));

    let workers = (0..config.workers).map(|_| Supervised {
        arguments: &arguments,
        database_url: &database.url,
        pool: &pool,
        shutdown,
        lease: Duration::from_secs(config.lease_seconds),
        patience: Duration::from_secs(config.shutdown_seconds),
    });
    // In this task and not in tasks of their own: children belong to the thread that starts them.
    futures_util::future::join_all(workers.map(Supervised::keep_alive)).await;
    shutdown.cancelled().await;
    let patience = Duration::from_secs(config.shutdown_seconds);
    match tokio::time::timeout(patience, served).await {
        Ok(ended) => ended?,
        Err(_) => tracing::warn!("some requests did not finish in time and were dropped"),
    }
    decoder.end();
    pool.close().await;
    tracing::info!("stopped");
    Ok(())
}

/// Everything up to the moment from which requests are answered.
async fn start(
    config: &Config,
    runtime: Runtime,
    (database, stopping): (&Connection, &CancellationToken),
) -> anyhow::Result<(Listeners, App)> {
    let pool = store::connect(&database.url, config.storage.database_connections).await?;
    refuse_exposure(config, &pool).await?;
    let app = app(config, runtime, (database, stopping), pool.clone()).await?;
    let listeners = Listeners::bind(config).await?;
    announce(config, database, &listeners, &pool).await?;
    Ok((listeners, app))
}

async fn app(
    config: &Config,
    runtime: Runtime,
    (database, stopping): (&Connection, &CancellationToken),
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
    let decoder = Pool::start(std::env::current_exe()?, &config.limits, scratch.clone())
        .context("the processes that read files cannot be started")?;
    tell_confinement(decoder.clone()).await?;
    let limits = &config.limits;
    let hasher = PatientHasher::new(secret);
    let registry = Registry::new(runtime, &config.compute, limits);
    let machine = Machine {
        estimator: Estimator::new(pool.clone(), storage.measuring(), stopping.clone()),
        threads: config.compute.threads(),
        memory_bytes: limits.training_memory_bytes,
    };
    Ok(App {
        importer: Importer::new(
            store.clone(),
            config.compute.clone(),
            scratch.clone(),
            decoder.clone(),
        ),
        intake: Intake::new(store.clone(), decoder.clone(), hasher.clone(), limits),
        freezer: Freezer::new(store.clone(), hasher.clone(), limits),
        submitter: Submitter::new(store.clone(), machine, limits.queued_runs),
        predictor: Predictor::new(store.clone(), registry, decoder.clone(), &scratch),
        decoder,
        store,
        hasher,
        limits: Arc::new(limits.clone()),
        changes: events::listen(pool.clone()),
        metrics: telemetry::start_metrics().context("metrics cannot be recorded")?,
        spool: scratch,
        built_in_database: database.is_built_in,
        loopback: config.listen.ip().is_loopback(),
        standing: Standing::start(pool, stopping.clone()),
        stopping: stopping.clone(),
        gates: Gates::new(limits),
        underway: Underway::default(),
    })
}

/// Says what confines the processes that read files, beside limits of memory and time.
async fn tell_confinement(decoder: Pool) -> anyhow::Result<()> {
    let confined = tokio::task::spawn_blocking(move || decoder.confined())
        .await?
        .context("a process that reads files did not start")?;
    for (holds, name) in [(confined.landlock, "Landlock"), (confined.seccomp, "seccomp")] {
        if holds {
            tracing::info!("files are read in processes confined by {name}");
        } else {
            tracing::warn!(
                "this kernel lacks {name}: the processes that read files are bounded in memory and \
                 time, and not confined by it"
            );
        }
    }
    Ok(())
}

/// Where the server listens.
struct Listeners {
    main: TcpListener,
    /// Answers probes only.
    health: Option<TcpListener>,
}

impl Listeners {
    async fn bind(config: &Config) -> anyhow::Result<Self> {
        let bind = async |address: SocketAddr| {
            let bound = TcpListener::bind(address).await;
            bound.with_context(|| format!("cannot listen on {address}"))
        };
        let main = bind(config.listen).await?;
        let health = match config.health_listen {
            Some(address) => Some(bind(address).await?),
            None => None,
        };
        Ok(Self { main, health })
    }

    /// Serves until the server is told to stop, and then what is still under way.
    async fn serve(self, app: App) {
        let (stopping, mut bounds) = (app.stopping.clone(), app.limits.connections.clone());
        listen::make_room(&mut bounds);
        let router = router(app);
        let serve = async |listener, purpose| {
            listen::serve(listener, router.clone(), bounds.clone(), purpose, stopping.clone())
                .await;
        };
        let health = async {
            if let Some(listener) = self.health {
                serve(listener, Purpose::Probes).await;
            }
        };
        tokio::join!(serve(self.main, Purpose::Everything), health);
    }
}

fn kept_by_sweeps(config: &Config) -> sweep::Keep {
    sweep::Keep {
        grace: Duration::from_secs(config.sweep_grace_seconds),
        checkpoints: Duration::from_hours(24) * config.keep_checkpoint_days,
        owner: config.storage.owner(),
    }
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

/// Others on the machine may not look into it.
fn make_private(folder: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))
}

async fn refuse_exposure(config: &Config, pool: &sqlx::PgPool) -> anyhow::Result<()> {
    anyhow::ensure!(
        config.listen.ip().is_loopback() || keys::any(pool).await?,
        "refusing to listen on {} without authentication: make a key first with \
         `lvmed key create --role admin --name NAME{}`, or listen on 127.0.0.1",
        config.listen,
        match config.storage.database_url {
            // It reads the variable as well.
            Some(_) => String::new(),
            None => format!(" --data {}", config.storage.data.display()),
        }
    );
    Ok(())
}

async fn announce(
    config: &Config,
    database: &Connection,
    listeners: &Listeners,
    pool: &sqlx::PgPool,
) -> anyhow::Result<()> {
    let data = config.storage.data.display();
    let postgres = if database.is_built_in { "the built-in cluster" } else { "DATABASE_URL" };
    tracing::info!("data folder {data}, Postgres from {postgres}");
    if !keys::any(pool).await? {
        tracing::info!("no API key exists: everybody on this machine may use the server");
    }
    if let Some(health) = &listeners.health {
        tracing::info!("probes are answered on http://{} too", health.local_addr()?);
    }
    tracing::info!("listening on http://{}", listeners.main.local_addr()?);
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
    /// A worker that gave no sign of life for as long as this hangs.
    lease: Duration,
    /// The time it is given to end.
    patience: Duration,
}

impl Supervised<'_> {
    async fn keep_alive(self) {
        let mut pause = FIRST_PAUSE;
        while !self.shutdown.is_cancelled() {
            let id = WorkerId::new();
            let started = std::time::Instant::now();
            match self.start(id) {
                Ok((mut worker, mut signs)) => {
                    let status = tokio::select! {
                        status = worker.wait() => status,
                        () = silence(&mut signs, self.lease) => {
                            tracing::warn!(worker = %id, "a worker hangs and is killed");
                            let _ = worker.kill().await;
                            worker.wait().await
                        }
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

    /// Starts a worker; its signs of life come through the socket.
    fn start(&self, id: WorkerId) -> std::io::Result<(Child, UnixStream)> {
        let (own, other) = std::os::unix::net::UnixStream::pair()?;
        own.set_nonblocking(true)?;
        let worker = Command::new(std::env::current_exe()?)
            .arg("worker")
            .args(self.arguments)
            .env("DATABASE_URL", self.database_url)
            .env(worker::WORKER_ID, id.to_string())
            .env(worker::SUPERVISOR, std::process::id().to_string())
            .stdin(std::os::fd::OwnedFd::from(other))
            // An interrupt typed at the terminal is for the server, which stops its workers.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        Ok((worker, UnixStream::from_std(own)?))
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

/// Returns when no sign of life came for as long as `lease`. A worker that has closed its end is
/// ending, which is noticed elsewhere.
async fn silence(signs: &mut UnixStream, lease: Duration) {
    let mut read = [0; 64];
    loop {
        match tokio::time::timeout(lease, signs.read(&mut read)).await {
            Ok(Ok(1..)) => {}
            Ok(Ok(0) | Err(_)) => std::future::pending().await,
            Err(_) => return,
        }
    }
}
