//! Runs: asked for here, done by workers.

use std::collections::BTreeMap;

use axum::extract::State;
use serde::{Deserialize, Serialize};

use super::form::recipe::RecipeBody;
use crate::domain::run::{Run, Spec, Status};
use crate::domain::{Role, RunId};
use crate::http::app::App;
use crate::http::wire::answer::shape::{Accepted, Items, Json, Page};
use crate::http::wire::caller::{AsTrainer, Caller};
use crate::http::wire::documented::{BadJson, Busy, Conflict, Guarded, Invalid, Missing};
use crate::http::wire::extract::{Id, IdempotencyKey, Query, page_size};
use crate::http::wire::problem::{Code, Problem};
use crate::store::events;
use crate::store::predictions::{self, TestPrediction};
use crate::store::runs::{self, Once};

/// Which runs to list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RunsQuery {
    /// Only runs in this status.
    status: Option<Status>,
    /// Only runs older than this one; the `next` of the page before.
    before: Option<RunId>,
    /// Runs on the page; 100 when absent.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// The metric curves of a run.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Curves {
    /// For each name its points, step and value, in order.
    pub curves: BTreeMap<String, Vec<(u64, f64)>>,
}

/// Queues a run.
#[utoipa::path(post, path = "/api/v1/runs", tag = "runs",
    operation_id = "create_run", request_body = Spec,
    params(("Idempotency-Key" = Option<String>, Header, max_length = 255,
        description = "A caller that sends one key with one body twice queues one run; another body \
            under the same key is a conflict")),
    responses((status = 202, description = "The run, queued", body = Run,
        headers(("Location" = String, description = "Where it can be watched"))),
        Conflict, Busy, BadJson, Guarded))]
pub async fn create(
    State(app): State<App>,
    AsTrainer(caller): AsTrainer,
    IdempotencyKey(key): IdempotencyKey,
    RecipeBody(spec, body): RecipeBody,
) -> Result<Accepted<Run>, Problem> {
    let once = key.map(|key| Once { caller: caller.key, key, body });
    Ok(accepted(app.submitter.queue(spec, once).await?))
}

/// Runs, newest first.
#[utoipa::path(get, path = "/api/v1/runs", tag = "runs",
    operation_id = "list_runs", params(RunsQuery),
    responses((status = 200, description = "A page of them", body = Page<Run>), Invalid, Guarded))]
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<RunsQuery>,
) -> Result<Json<Page<Run>>, Problem> {
    caller.must(Role::Viewer)?;
    let limit = page_size(query.limit)?;
    let page = runs::Page { status: query.status, before: query.before, limit: limit + 1 };
    Ok(Page::json(runs::list(&app.store.pool, &page).await?, limit, |run| run.id.to_string()))
}

/// One run: what was asked, how far it is, how it ended.
#[utoipa::path(get, path = "/api/v1/runs/{id}", tag = "runs", operation_id = "get_run",
    params(("id" = RunId, Path, description = "The run's id")),
    responses((status = 200, description = "The run", body = Run), Missing, Guarded))]
pub async fn one(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<RunId>,
) -> Result<Json<Run>, Problem> {
    caller.must(Role::Viewer)?;
    existing(&app, id).await.map(Json)
}

/// Asks a run to stop: a queued one at once, a running one within seconds. One that has ended
/// stays as it is.
#[utoipa::path(post, path = "/api/v1/runs/{id}/cancel", tag = "runs", operation_id = "cancel_run",
    params(("id" = RunId, Path, description = "The run's id")),
    responses((status = 202, description = "The run as it is now", body = Run,
        headers(("Location" = String, description = "Where it can be watched"))),
        Missing, Guarded))]
pub async fn cancel(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<RunId>,
) -> Result<Accepted<Run>, Problem> {
    caller.must(Role::Trainer)?;
    let run = runs::cancel(&app.store.pool, id).await?;
    run.map(accepted).ok_or_else(|| Problem::missing("run", id))
}

/// Queues a failed or cancelled run again; it goes on from its checkpoint.
#[utoipa::path(post, path = "/api/v1/runs/{id}/retry", tag = "runs", operation_id = "retry_run",
    params(("id" = RunId, Path, description = "The run's id")),
    responses((status = 202, description = "The run, queued again", body = Run,
        headers(("Location" = String, description = "Where it can be watched"))),
        Missing, Conflict, Busy, Guarded))]
pub async fn retry(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<RunId>,
) -> Result<Accepted<Run>, Problem> {
    caller.must(Role::Trainer)?;
    let before = existing(&app, id).await?;
    app.submitter.room().await?;
    if !runs::retry(&app.store.pool, id).await? {
        let status = before.status;
        let detail = format!("the run is {status}; only failed and cancelled runs are retried");
        return Err(Problem::new(Code::Conflict, detail));
    }
    existing(&app, id).await.map(accepted)
}

/// The metric curves of a run.
#[utoipa::path(get, path = "/api/v1/runs/{id}/curves", tag = "runs",
    operation_id = "get_run_curves",
    params(("id" = RunId, Path, description = "The run's id")),
    responses((status = 200, description = "All curves", body = Curves), Missing, Guarded))]
pub async fn curves(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<RunId>,
) -> Result<Json<Curves>, Problem> {
    caller.must(Role::Viewer)?;
    existing(&app, id).await?;
    Ok(Json(Curves { curves: events::curves(&app.store.pool, id).await? }))
}

/// What a finished run says of each test image.
#[utoipa::path(get, path = "/api/v1/runs/{id}/predictions", tag = "runs",
    operation_id = "list_run_predictions",
    params(("id" = RunId, Path, description = "The run's id")),
    responses((status = 200, description = "All test images", body = Items<TestPrediction>),
        Missing, Guarded))]
pub async fn predictions(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<RunId>,
) -> Result<Json<Items<TestPrediction>>, Problem> {
    caller.must(Role::Viewer)?;
    existing(&app, id).await?;
    Ok(Items::json(predictions::list(&app.store.pool, id).await?))
}

pub(super) async fn existing(app: &App, id: RunId) -> Result<Run, Problem> {
    runs::one(&app.store.pool, id).await?.ok_or_else(|| Problem::missing("run", id))
}

pub(super) fn accepted(run: Run) -> Accepted<Run> {
    Accepted { location: format!("/api/v1/runs/{}", run.id), body: run }
}
