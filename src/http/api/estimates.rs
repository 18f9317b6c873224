//! What a run will take, before it is queued, and the refusal of what cannot fit.
//!
//! A cost that was not measured yet is measured in the background: nobody waits for it here.

use axum::extract::State;
use serde::Serialize;

use super::pretraining;
use super::recipes;
use super::recipes::Asked;
use crate::domain::forecast::{Forecast, Trial, forecast};
use crate::domain::pretrain::Pretrain;
use crate::domain::run::{Finetune, Method, Spec};
use crate::estimate::{CannotMeasure, Cost, memory};
use crate::http::api::form::recipe::RecipeBody;
use crate::http::app::App;
use crate::http::wire::answer::shape::Json;
use crate::http::wire::caller::AsTrainer;
use crate::http::wire::documented::{BadJson, Guarded};
use crate::http::wire::problem::Problem;

/// What is said while a measurement is under way.
const MEASURING: &str = "not measured yet on this machine; the measurement is running. Ask again in a \
                         few seconds. A run can be queued meanwhile";

/// What a run will take, as far as it is known.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct RunEstimate {
    /// Whether the cost of a step is known. If not, it is being measured: ask again.
    measured: bool,
    /// What to know about it, for people to read.
    notice: Option<&'static str>,
    /// What to do better, for people to read: of a recipe that can hardly change the network.
    advice: Option<String>,
    /// Time until it ends if no early stop ends it before; none while that is not known.
    seconds: Option<f64>,
    /// Most memory of its worker; none while that is not known.
    memory_bytes: Option<u64>,
    /// Memory that it may use when no other run is at work.
    available_bytes: u64,
    /// Images computed at a time so that it fits; the batch stays as asked. None where there are no
    /// batches, or batches that cannot be split, and while that is not known.
    micro_batch: Option<u32>,
    /// Compute threads it is measured with.
    threads: usize,
}

impl RunEstimate {
    fn known(found: &Forecast) -> Self {
        Self {
            measured: true,
            notice: None,
            advice: None,
            seconds: Some(found.seconds),
            memory_bytes: Some(found.memory_bytes),
            available_bytes: found.available_bytes,
            micro_batch: found.micro_batch,
            threads: found.threads,
        }
    }

    fn unknown(app: &App) -> Self {
        Self {
            measured: false,
            notice: Some(MEASURING),
            advice: None,
            seconds: None,
            memory_bytes: None,
            available_bytes: memory::capacity(app.limits.training_memory_bytes),
            micro_batch: None,
            threads: app.threads,
        }
    }
}

/// Estimates the time and the memory of a run without queueing it, from a few training steps that
/// are measured on this machine once for each kind of step. While they are measured the answer says
/// so, with nothing but what is known; ask again. A run that would not fit into the memory with
/// nothing else at work is refused with the numbers, here and, once that is known, when it is queued.
#[utoipa::path(post, path = "/api/v1/runs/estimate", tag = "runs",
    operation_id = "estimate_run", request_body = Spec,
    responses((status = 200, description = "What it will take, as far as it is known",
        body = RunEstimate), BadJson, Guarded))]
pub async fn create(
    State(app): State<App>,
    _: AsTrainer,
    RecipeBody(spec, _): RecipeBody,
) -> Result<Json<RunEstimate>, Problem> {
    let mut advice = None;
    let measured = match spec {
        Spec::Pretrain(wanted) => {
            let asked = pretraining::check(&app, &wanted).await?;
            of_pretraining(&app, &wanted, &asked).await
        }
        Spec::Finetune(_) | Spec::Replay(_) => {
            let wanted = recipes::finetune(spec)?;
            let asked = recipes::check(&app, &wanted).await?;
            let amounts = asked.amounts(&wanted);
            advice = wanted.too_few_steps(amounts.training, amounts.validation > 0);
            of_finetuning(&app, &wanted, &asked).await
        }
    };
    let found = match measured.map_err(|error| Problem::unavailable("the estimate", error))? {
        Some(found) => RunEstimate::known(&found?),
        None => RunEstimate::unknown(&app),
    };
    Ok(Json(RunEstimate { advice, ..found }))
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

/// What a run will take or why it cannot run; none while that is being measured, unless it could not
/// be.
type Measured = Result<Option<Result<Forecast, Problem>>, CannotMeasure>;

/// What is not known is let through: its worker sees to it.
fn refuse(measured: Measured) -> Result<(), Problem> {
    match measured {
        Ok(Some(found)) => found.map(|_| ()),
        Ok(None) => Ok(()),
        Err(error) => {
            tracing::warn!(%error, "a run is queued without an estimate");
            Ok(())
        }
    }
}

async fn of_finetuning(app: &App, wanted: &Finetune, asked: &Asked) -> Measured {
    let trial = asked.trial(wanted, app.threads);
    let Cost::Measured(step) = app.estimator.ask(&trial).await? else { return Ok(None) };
    let available = memory::capacity(app.limits.training_memory_bytes);
    let found = forecast(wanted, &trial, &step, asked.amounts(wanted), available);
    Ok(Some(found.map_err(Problem::from)))
}

async fn of_pretraining(app: &App, wanted: &Pretrain, asked: &pretraining::Asked) -> Measured {
    let network = asked.network;
    let trial = Trial::of_pretraining(wanted, network, app.threads);
    let Cost::Measured(step) = app.estimator.ask(&trial).await? else { return Ok(None) };
    let available = memory::capacity(app.limits.training_memory_bytes);
    let found = wanted.forecast(network, &step, asked.sights, (available, app.threads));
    Ok(Some(found.map_err(Problem::from)))
}
