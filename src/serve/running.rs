//! A server that answers requests, with what it does beside that; its workers are apart.

use std::net::SocketAddr;
use std::time::Duration;

use sqlx::PgPool;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::listeners::Listeners;
use crate::config::Config;
use crate::decode::Pool;
use crate::http::App;
use crate::store::{queue, sweep};

/// Time between two looks at the queue for runs that nobody works on.
const REAPING: Duration = Duration::from_secs(10);

/// A server that answers requests, sweeps the blob store and looks through the queue, in tasks of their
/// own, until it is told to stop.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    pool: PgPool,
    decoder: Pool,
    /// Ends with the last request.
    served: JoinHandle<()>,
}

impl Running {
    /// Begins to answer.
    pub(super) fn begin(config: &Config, listeners: Listeners, app: App) -> std::io::Result<Self> {
        let address = listeners.address()?;
        let (pool, decoder) = (app.store.pool.clone(), app.decoder.clone());
        let stopping = app.stopping.clone();
        let sweeping = sweep::now_and_then(
            app.store.clone(),
            Duration::from_secs(config.sweep_seconds),
            kept_by_sweeps(config),
            stopping.clone(),
        );
        tokio::spawn(sweeping);
        let served = tokio::spawn(listeners.serve(app));
        tokio::spawn(reap_now_and_then(pool.clone(), stopping));
        Ok(Self { address, pool, decoder, served })
    }

    /// The address where everything is answered.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its connections to the database.
    pub(super) fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Waits until what is under way has ended, for `patience` at most, and lets go of everything. To be
    /// called once the server was told to stop.
    pub(super) async fn end(self, patience: Duration) -> anyhow::Result<()> {
        match tokio::time::timeout(patience, self.served).await {
            Ok(ended) => ended?,
            Err(_) => tracing::warn!("some requests did not finish in time and were dropped"),
        }
        self.decoder.end();
        self.pool.close().await;
        Ok(())
    }
}

fn kept_by_sweeps(config: &Config) -> sweep::Keep {
    sweep::Keep {
        grace: Duration::from_secs(config.sweep_grace_seconds),
        checkpoints: Duration::from_hours(24) * config.keep_checkpoint_days,
        owner: config.storage.owner(),
    }
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
