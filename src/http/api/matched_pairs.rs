//! The newest pair of graphs that a pretraining run matched.

use axum::extract::State;
use serde::Serialize;
use serde_json::Value;

use super::runs;
use crate::domain::{Role, RunId};
use crate::http::app::App;
use crate::http::wire::answer::shape::Json;
use crate::http::wire::caller::Caller;
use crate::http::wire::documented::{Guarded, Missing};
use crate::http::wire::extract::Id;
use crate::http::wire::problem::Problem;
use crate::store::matched_pairs;

/// A pair of graphs of the same images, seen in two views each, and how they were matched.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Matched {
    /// The step of the optimiser after which it was seen.
    step: u64,
    /// `nodes`: for each image its `first` and `second` view as a PNG data URL; `partners`: for each
    /// node of the first view the matched one of the second, or null; `affinity`: a row of numbers
    /// for each node of the first view; `first_edges`, `second_edges`: pairs of nodes.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    pair: Value,
}

/// The newest pair of graphs that a pretraining run matched, for people to look at.
#[utoipa::path(get, path = "/api/v1/runs/{id}/matching", tag = "runs",
    operation_id = "get_run_matching",
    params(("id" = RunId, Path, description = "The run's id")),
    responses((status = 200, description = "The pair", body = Matched), Missing, Guarded))]
pub async fn one(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<RunId>,
) -> Result<Json<Matched>, Problem> {
    caller.must(Role::Viewer)?;
    runs::existing(&app, id).await?;
    let found = matched_pairs::get(&app.store.pool, id).await?;
    let (step, pair) = found.ok_or_else(|| Problem::missing("matched pair of run", id))?;
    Ok(Json(Matched { step, pair }))
}
