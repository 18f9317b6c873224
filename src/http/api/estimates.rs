//! The forecast of a run, told before it is queued.

use axum::extract::State;
use serde::Serialize;

use super::form::recipe::RecipeBody;
use crate::domain::run::Spec;
use crate::http::app::App;
use crate::http::wire::answer::shape::Json;
use crate::http::wire::caller::AsTrainer;
use crate::http::wire::documented::{BadJson, Guarded};
use crate::http::wire::problem::Problem;
use crate::service::submit::Estimate;

/// The sentence to say while a measurement is under way.
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
    fn of(found: Estimate) -> Self {
        let Estimate { forecast, advice, available_bytes, threads } = found;
        let unknown = Self {
            measured: false,
            notice: Some(MEASURING),
            advice,
            seconds: None,
            memory_bytes: None,
            available_bytes,
            micro_batch: None,
            threads,
        };
        let Some(forecast) = forecast else { return unknown };
        Self {
            measured: true,
            notice: None,
            seconds: Some(forecast.seconds),
            memory_bytes: Some(forecast.memory_bytes),
            available_bytes: forecast.available_bytes,
            micro_batch: forecast.micro_batch,
            threads: forecast.threads,
            ..unknown
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
    Ok(Json(RunEstimate::of(app.submitter.estimate(spec).await?)))
}
