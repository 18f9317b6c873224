//! Replays: a finished run done again as far as some steps, its losses compared with those on record.

use axum::extract::State;
use serde::Deserialize;

use super::runs::{accepted, existing};
use crate::domain::RunId;
use crate::domain::run::Run;
use crate::http::app::App;
use crate::http::wire::answer::shape::Accepted;
use crate::http::wire::caller::AsTrainer;
use crate::http::wire::documented::{BadJson, Busy, Conflict, Guarded, Missing};
use crate::http::wire::extract::{Checks, Id, JsonBody};
use crate::http::wire::problem::Problem;

/// How far a run is replayed.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReplayRequest {
    /// Steps to do again; those that were recorded where these are fewer.
    #[schema(minimum = 1, maximum = 100_000, default = 10)]
    steps: u32,
}

impl Default for ReplayRequest {
    fn default() -> Self {
        Self { steps: 10 }
    }
}

/// Queues a replay of a finished run: its first steps are done again and each loss is compared with
/// the recorded one, bit for bit. The replay is a run of its own, and `replayed` says what it found.
#[utoipa::path(post, path = "/api/v1/runs/{id}/replay", tag = "runs", operation_id = "replay_run",
    params(("id" = RunId, Path, description = "The run's id")),
    request_body = ReplayRequest,
    responses((status = 202, description = "The replay, queued", body = Run,
        headers(("Location" = String, description = "Where it can be watched"))),
        Missing, Conflict, Busy, BadJson, Guarded))]
pub async fn create(
    State(app): State<App>,
    _: AsTrainer,
    Id(id): Id<RunId>,
    JsonBody(wanted): JsonBody<ReplayRequest>,
) -> Result<Accepted<Run>, Problem> {
    Checks::default().within("/steps", Some(wanted.steps), 1, 100_000).done()?;
    let run = existing(&app, id).await?;
    Ok(accepted(app.submitter.replay(run, wanted.steps).await?))
}
