//! The health of the server: whether it lives, is ready and how it does; open to all, tells nothing
//! of the data.

use std::time::Duration;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use serde::Serialize;

use crate::domain::Size;
use crate::http::app::App;
use crate::http::wire::answer::shape::Json;
use crate::http::wire::body::spool;
use crate::http::wire::caller::AsScraper;
use crate::http::wire::documented::{Guarded, NotReady};
use crate::http::wire::problem::{Code, Problem};
use crate::store::StoreError;

/// A database that takes longer is not ready.
const PATIENCE: Duration = Duration::from_secs(3);

/// That the process answers.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Alive {
    /// Always `alive`.
    #[schema(example = "alive")]
    pub status: &'static str,
}

/// That the server can do its work.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Ready {
    /// Always `ready`.
    #[schema(example = "ready")]
    pub status: &'static str,
    /// `built-in` or `external`.
    #[schema(example = "built-in")]
    pub database: &'static str,
    /// Where networks run: `cpu` or `cuda`.
    #[schema(example = "cpu")]
    pub inference: &'static str,
}

/// What runs here.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Program {
    /// Always `lvmed`.
    #[schema(example = "lvmed")]
    pub name: &'static str,
    /// Version of the program.
    #[schema(example = "0.1.0")]
    pub version: &'static str,
}

/// Whether the process answers.
#[utoipa::path(get, path = "/livez", tag = "server", operation_id = "get_liveness", security(()),
    responses((status = 200, description = "The process answers", body = Alive)))]
pub async fn live() -> Json<Alive> {
    Json(Alive { status: "alive" })
}

/// Whether the server can do its work.
#[utoipa::path(get, path = "/readyz", tag = "server", operation_id = "get_readiness", security(()),
    responses((status = 200, description = "The server can work", body = Ready), NotReady))]
pub async fn ready(State(app): State<App>) -> Result<Json<Ready>, Problem> {
    if app.stopping.is_cancelled() {
        return Err(Problem::new(Code::Unavailable, "the server is shutting down"));
    }
    room(&app)?;
    match tokio::time::timeout(PATIENCE, app.store.pool.acquire()).await {
        Ok(Ok(_connection)) => {}
        Ok(Err(error)) => {
            return Err(Problem::unavailable("the database", StoreError::from(error)));
        }
        Err(late) => return Err(Problem::unavailable("the database", late)),
    }
    let database = if app.built_in_database { "built-in" } else { "external" };
    Ok(Json(Ready { status: "ready", database, inference: app.predictor.device() }))
}

/// Fails when the disk has no room for an upload.
fn room(app: &App) -> Result<(), Problem> {
    let (free, needed) = (spool::free_bytes(&app.spool)?, app.limits.free_bytes);
    if free >= needed {
        return Ok(());
    }
    let detail = format!(
        "the data folder's disk has {} free; {} must stay free for uploads to be taken \
         (LVMED_LIMIT_FREE_BYTES). Make room",
        Size(free),
        Size(needed)
    );
    Err(Problem::new(Code::Unavailable, detail))
}

/// Name and version of the program.
#[utoipa::path(get, path = "/version", tag = "server",
    operation_id = "get_program_version", security(()),
    responses((status = 200, description = "What runs here", body = Program)))]
pub async fn version() -> Json<Program> {
    Json(Program { name: env!("CARGO_PKG_NAME"), version: env!("CARGO_PKG_VERSION") })
}

/// Counters and durations for Prometheus. A program of the server's own machine needs no key for
/// them; from elsewhere, or through a proxy, any key will do.
#[utoipa::path(get, path = "/metrics", tag = "server", operation_id = "get_metrics",
    security((), ("api_key" = [])),
    responses((status = 200, description = "Prometheus text format", body = String,
        content_type = "text/plain"), Guarded))]
pub async fn metrics(State(app): State<App>, _: AsScraper) -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], app.metrics.render())
}
