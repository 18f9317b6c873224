//! What a run will take, before it is queued, and the refusal of what cannot fit.

use axum::extract::State;

use super::answer::Json;
use super::caller::AsTrainer;
use super::documented::{BadJson, Guarded};
use super::extract::JsonBody;
use super::problem::Problem;
use super::recipes::{self, Asked};
use super::{App, pretraining};
use crate::domain::forecast::{Forecast, Trial, forecast};
use crate::domain::pretrain::Pretrain;
use crate::domain::run::{Finetune, Method, Spec};
use crate::estimate::{CannotMeasure, memory};

/// Estimates the time and the memory of a run without queueing it, from a few training steps that
/// are measured on this machine once for each kind of step. A run that would not fit into the memory
/// with nothing else at work is refused with the numbers, here and when it is queued.
#[utoipa::path(post, path = "/api/v1/runs/estimate", tag = "runs",
    operation_id = "estimate_run", request_body = Spec,
    responses((status = 200, description = "What it will take", body = Forecast),
        BadJson, Guarded))]
pub async fn create(
    State(app): State<App>,
    _: AsTrainer,
    JsonBody(spec): JsonBody<Spec>,
) -> Result<Json<Forecast>, Problem> {
    let measured = match spec {
        Spec::Pretrain(wanted) => {
            let asked = pretraining::check(&app, &wanted).await?;
            of_pretraining(&app, &wanted, &asked).await
        }
        Spec::Finetune(_) | Spec::Replay(_) => {
            let wanted = recipes::finetune(spec)?;
            let asked = recipes::check(&app, &wanted).await?;
            of_finetuning(&app, &wanted, &asked).await
        }
    };
    measured.map_err(|error| Problem::unavailable("the estimate", error))?.map(Json)
}

/// Refuses fine-tuning that cannot fit.
pub(super) async fn fits(app: &App, wanted: &Finetune, asked: &Asked) -> Result<(), Problem> {
    if wanted.method == Method::Probe {
        return Ok(());
    }
    refuse(of_finetuning(app, wanted, asked).await)
}

/// Refuses pretraining that cannot fit.
pub(super) async fn pretraining_fits(
    app: &App,
    wanted: &Pretrain,
    asked: &pretraining::Asked,
) -> Result<(), Problem> {
    refuse(of_pretraining(app, wanted, asked).await)
}

/// What a run will take or why it cannot run, unless that could not be measured.
type Measured = Result<Result<Forecast, Problem>, CannotMeasure>;

/// What cannot be measured is let through: its worker sees to it.
fn refuse(measured: Measured) -> Result<(), Problem> {
    match measured {
        Ok(found) => found.map(|_| ()),
        Err(error) => {
            tracing::warn!(%error, "a run is queued without an estimate");
            Ok(())
        }
    }
}

async fn of_finetuning(app: &App, wanted: &Finetune, asked: &Asked) -> Measured {
    let trial = asked.trial(wanted, app.threads);
    let step = app.estimator.calibration(&trial).await?;
    let available = memory::capacity(app.limits.training_memory_bytes);
    let found = forecast(wanted, &trial, &step, asked.amounts(wanted), available);
    Ok(found.map_err(Problem::from))
}

async fn of_pretraining(app: &App, wanted: &Pretrain, asked: &pretraining::Asked) -> Measured {
    let network = asked.network;
    let trial = Trial::of_pretraining(wanted, network, app.threads);
    let step = app.estimator.calibration(&trial).await?;
    let available = memory::capacity(app.limits.training_memory_bytes);
    let found = wanted.forecast(network, &step, asked.sights, (available, app.threads));
    Ok(found.map_err(Problem::from))
}
