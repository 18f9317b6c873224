//! Replays: a finished run done again as far as some steps, its losses compared with those on record.

use axum::extract::State;
use serde::Deserialize;

use super::recipes;
use super::runs::{accepted, existing, room_in_queue};
use crate::domain::RunId;
use crate::domain::run::{Replay, Run, Spec, Status};
use crate::http::app::App;
use crate::http::wire::answer::shape::Accepted;
use crate::http::wire::caller::AsTrainer;
use crate::http::wire::documented::{BadJson, Busy, Conflict, Guarded, Missing};
use crate::http::wire::extract::{Checks, Id, JsonBody};
use crate::http::wire::problem::{Code, Problem};
use crate::store::runs::{self, NewRun};

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
    let (Spec::Finetune(recipe), Status::Succeeded) = (run.spec, run.status) else {
        let detail = "only a fine-tuning run that has succeeded can be replayed";
        return Err(Problem::new(Code::Conflict, detail));
    };
    let asked = recipes::check(&app, &recipe).await?;
    room_in_queue(&app).await?;
    let (dataset_version, backbone) = (recipe.dataset_version, Some(recipe.backbone));
    let spec = Spec::Replay(Replay { run: id, steps: wanted.steps, recipe });
    let run = NewRun {
        spec: &spec,
        provenance: &asked.provenance(),
        dataset_version,
        backbone,
        once: None,
    };
    runs::insert(&app.store.pool, &run).await.map(accepted).map_err(Problem::from)
}
