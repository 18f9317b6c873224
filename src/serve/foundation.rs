//! The foundation that a server is built on, and how it is put together from it: in tests as in
//! production.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use super::listeners::Listeners;
use super::running::Running;
use crate::config::Config;
use crate::decode::Pool;
use crate::estimate::Estimator;
use crate::http::wire::standing::Standing;
use crate::http::wire::underway::Underway;
use crate::http::{App, Gates};
use crate::imaging::PatientHasher;
use crate::inference::{Registry, Runtime};
use crate::service::freeze::Freezer;
use crate::service::import::Importer;
use crate::service::intake::Intake;
use crate::service::predict::Predictor;
use crate::service::submit::{Machine, Submitter};
use crate::store::{self, Blobs, Store, events, keys, secret};
use crate::telemetry;

/// The foundation that a server is built on.
#[derive(Debug)]
pub struct Foundation<'a> {
    /// The settings of the operator. The data folder is there.
    pub config: &'a Config,
    /// This program: its children read files, measure and transcribe.
    pub program: PathBuf,
    /// ONNX Runtime.
    pub runtime: Runtime,
    /// The address of the database.
    pub database_url: String,
    /// Whether that is the built-in cluster.
    pub is_built_in: bool,
    /// Cancelled when the server is to stop.
    pub stopping: CancellationToken,
}

impl Foundation<'_> {
    /// Everything up to the moment from which requests are answered.
    pub async fn start(&self) -> anyhow::Result<Running> {
        let connections = self.config.storage.database_connections;
        let pool = store::connect(&self.database_url, connections).await?;
        refuse_exposure(self.config, &pool).await?;
        let app = self.app(pool.clone()).await?;
        let listeners = Listeners::bind(self.config).await?;
        self.announce(&listeners, &pool).await?;
        Ok(Running::begin(self.config, listeners, app)?)
    }

    async fn app(&self, pool: PgPool) -> anyhow::Result<App> {
        let (storage, limits) = (&self.config.storage, &self.config.limits);
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
        let decoder = Pool::start(self.program.clone(), limits, scratch.clone())
            .context("the processes that read files cannot be started")?;
        tell_confinement(decoder.clone()).await?;
        let hasher = PatientHasher::new(secret);
        let registry = Registry::new(self.runtime.clone(), &self.config.compute, limits);
        Ok(App {
            importer: Importer::new(
                store.clone(),
                self.config.compute.clone(),
                scratch.clone(),
                decoder.clone(),
            ),
            intake: Intake::new(store.clone(), decoder.clone(), hasher.clone(), limits),
            freezer: Freezer::new(store.clone(), hasher.clone(), limits),
            submitter: Submitter::new(store.clone(), self.machine(&pool), limits.queued_runs),
            predictor: Predictor::new(store.clone(), registry, decoder.clone(), &scratch),
            decoder,
            store,
            hasher,
            limits: Arc::new(limits.clone()),
            changes: events::listen(pool.clone()),
            metrics: telemetry::start_metrics().context("metrics cannot be recorded")?,
            spool: scratch,
            built_in_database: self.is_built_in,
            loopback: self.config.listen.ip().is_loopback(),
            standing: Standing::start(pool, self.stopping.clone()),
            stopping: self.stopping.clone(),
            gates: Gates::new(limits),
            underway: Underway::default(),
        })
    }

    /// The machine that runs are foretold for: this one.
    fn machine(&self, pool: &PgPool) -> Machine {
        let lock = self.config.storage.measuring();
        let stopping = self.stopping.clone();
        Machine {
            estimator: Estimator::new(pool.clone(), self.program.clone(), lock, stopping),
            threads: self.config.compute.threads(),
            memory_bytes: self.config.limits.training_memory_bytes,
        }
    }

    async fn announce(&self, listeners: &Listeners, pool: &PgPool) -> anyhow::Result<()> {
        let data = self.config.storage.data.display();
        let postgres = if self.is_built_in { "the built-in cluster" } else { "DATABASE_URL" };
        tracing::info!("data folder {data}, Postgres from {postgres}");
        if !keys::any(pool).await? {
            tracing::info!("no API key exists: everybody on this machine may use the server");
        }
        if let Some(health) = listeners.health_address()? {
            tracing::info!("probes are answered on http://{health} too");
        }
        tracing::info!("listening on http://{}", listeners.address()?);
        Ok(())
    }
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

/// Others on the machine may not look into it.
fn make_private(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))
}

async fn refuse_exposure(config: &Config, pool: &PgPool) -> anyhow::Result<()> {
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
