//! The events of a run, as they are told.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{Progress, Status};

/// One line of a run's life; also what `GET /api/v1/runs/{id}/events` streams.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Event {
    /// Counts up from 1 within the run; the `id:` of the event stream.
    pub sequence: i64,
    /// When it happened.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// The attempt that it is of; 0 before the first. What an earlier attempt drew of a curve beyond
    /// where this one goes on is drawn anew.
    pub attempt: u32,
    /// What happened.
    #[serde(flatten)]
    pub body: EventBody,
}

/// What an event says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum EventBody {
    /// The run changed status.
    Status {
        /// The new status.
        status: Status,
        /// Why, where there is a reason.
        detail: Option<String>,
    },
    /// The run moved on.
    Progress {
        /// How far it is.
        progress: Progress,
    },
    /// One point of a metric's curve.
    Metric {
        /// Name of the series: `train_loss`, `validation_loss`, `validation_accuracy`, ….
        name: String,
        /// Where on the curve: step or epoch.
        step: u64,
        /// The value.
        value: f64,
    },
    /// Something worth reading.
    Log {
        /// The line; never holds patient data.
        message: String,
    },
}
