//! Postgres rows, content-addressed blobs, the lease queue and the built-in cluster.

pub mod backbones;
mod binaries;
pub mod blobs;
pub mod calibrations;
pub mod check;
pub mod checkpoints;
pub mod database;
pub mod datasets;
pub mod deletion;
pub mod error;
pub mod events;
pub mod features;
pub mod images;
pub mod keys;
pub mod matched_pairs;
pub mod models;
mod named;
pub mod owner;
pub mod postgres;
pub mod predictions;
mod process;
pub mod queue;
pub mod row;
pub mod runs;
pub mod secret;
pub mod sweep;
mod unprivileged;
pub mod versions;
mod whole;

pub use blobs::{Blob, Blobs, Content};
pub use database::Database;
pub use error::StoreError;
pub use named::settle;

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
