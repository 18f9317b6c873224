//! Postgres rows, content-addressed blobs, the lease queue and the built-in cluster.

mod cluster;
mod data;
pub mod deletion;
pub mod error;
mod files;
pub mod keys;
mod results;
pub mod row;
mod run;
pub mod secret;

pub use cluster::database::Database;
pub use cluster::{database, postgres};
pub use data::{datasets, images, versions};
pub use error::StoreError;
pub use files::blobs::{Blob, Blobs, Content};
pub use files::named::settle;
pub use files::{blobs, check, owner, sweep};
pub use results::{backbones, models, predictions};
pub use run::{calibrations, checkpoints, events, features, matched_pairs, queue, runs};

use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

/// Rows and blobs: all that outlives a process.
#[derive(Debug, Clone)]
pub struct Store {
    /// Connections to Postgres.
    pub pool: PgPool,
    /// The blob store.
    pub blobs: Blobs,
}

/// The migrations, embedded.
pub static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("./migrations");

/// Connects to Postgres and brings its schema up to date.
pub async fn connect(url: &str, connections: u32) -> Result<PgPool, StoreError> {
    let pool = PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(std::time::Duration::from_secs(15))
        .connect(url)
        .await?;
    MIGRATIONS.run(&pool).await?;
    Ok(pool)
}
