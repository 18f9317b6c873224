//! What a run will take, before it is queued, and the refusal of what cannot fit.

use axum::extract::State;

use super::App;
use super::answer::Json;
use super::caller::AsTrainer;
use super::documented::{BadJson, Guarded};
use super::extract::JsonBody;
use super::problem::Problem;
use super::recipes::{self, Asked};
use crate::domain::forecast::{Forecast, TooLarge, forecast};
use crate::domain::run::{Finetune, Method, Spec};
use crate::estimate::memory;

/// Estimates the time and the memory of a run without queueing it, from a few training steps that
/// are measured on this machine once for each kind of step. A run that cannot fit into the memory is
/// refused with the numbers, here and when it is queued.
#[utoipa::path(post, path = "/api/v1/runs/estimate", tag = "runs",
    operation_id = "estimate_run", request_body = Spec,
    responses((status = 200, description = "What it will take", body = Forecast),
        BadJson, Guarded))]
pub async fn create(
    State(app): State<App>,
    _: AsTrainer,
    JsonBody(spec): JsonBody<Spec>,
) -> Result<Json<Forecast>, Problem> {
    let wanted = recipes::finetune(spec)?;
    let asked = recipes::check(&app, &wanted).await?;
    let measured = measured(&app, &wanted, &asked).await;
    let found = measured.map_err(|error| Problem::unavailable("the estimate", error))?;
    Ok(Json(found?))
}

/// Refuses what cannot fit. What cannot be measured is let through: its worker sees to it.
pub(super) async fn fits(app: &App, wanted: &Finetune, asked: &Asked) -> Result<(), Problem> {
    if wanted.method == Method::Probe {
        return Ok(());
    }
    match measured(app, wanted, asked).await {
        Ok(found) => found.map(|_| ()).map_err(Problem::from),
        Err(error) => {
            tracing::warn!(%error, "a run is queued without an estimate");
            Ok(())
        }
    }
}

async fn measured(
    app: &App,
    wanted: &Finetune,
    asked: &Asked,
) -> Result<Result<Forecast, TooLarge>, crate::estimate::CannotMeasure> {
    let trial = asked.trial(wanted, app.threads);
    let calibration = app.estimator.calibration(&trial).await?;
    let available = memory::budget(app.limits.training_memory_bytes);
    Ok(forecast(wanted, &trial, &calibration, asked.amounts(wanted), available))
}
