//! Runs: what is asked, how far it is, and how it ended.

mod event;
mod finetune;
mod kind;
mod outcome;
mod replay;
mod shown;
mod steps;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

pub use event::{Event, EventBody};
pub use finetune::Finetune;
pub use kind::Kind;
pub use outcome::Outcome;
pub use replay::{Difference, Replay, Replayed};
pub use steps::{FEW_STEPS, LEAST_PATIENCE};

pub use super::method::Method;
use super::pretrain::Pretrain;
use crate::domain::words::digest::Sha256;
use crate::domain::words::ids::RunId;
pub use crate::domain::words::word::UnknownWord;

/// Where a run is in its life: `queued -> running -> succeeded | failed | cancelled`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Waiting for a worker.
    Queued,
    /// Held by a worker.
    Running,
    /// Finished; what it published is there.
    Succeeded,
    /// Ended by an error that another attempt would not mend, or out of attempts.
    Failed,
    /// Ended because somebody asked.
    Cancelled,
}

impl Status {
    /// Every status.
    pub const ALL: [Self; 5] =
        [Self::Queued, Self::Running, Self::Succeeded, Self::Failed, Self::Cancelled];

    /// The word used in JSON and SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether the run has ended for good.
    pub fn is_final(self) -> bool {
        match self {
            Self::Queued | Self::Running => false,
            Self::Succeeded | Self::Failed | Self::Cancelled => true,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Status {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or_else(|| UnknownWord::new("run status", text))
    }
}

/// One piece of long work, by kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Spec {
    /// Few-shot fine-tuning of a backbone on a dataset version.
    Finetune(Finetune),
    /// Self-supervised pretraining of a backbone on the images of a dataset version.
    Pretrain(Pretrain),
    /// A comparison of a finished run with what it does now.
    Replay(Replay),
}

impl Spec {
    /// The kind as a word.
    pub fn kind(&self) -> &'static str {
        let kind = match self {
            Self::Finetune(_) => Kind::Finetune,
            Self::Pretrain(_) => Kind::Pretrain,
            Self::Replay(_) => Kind::Replay,
        };
        kind.as_str()
    }

    /// The fine-tuning recipe that is followed; none while pretraining.
    pub fn recipe(&self) -> Option<&Finetune> {
        match self {
            Self::Finetune(recipe) => Some(recipe),
            Self::Replay(replay) => Some(&replay.recipe),
            Self::Pretrain(_) => None,
        }
    }
}

/// How far a run is. Polling the run gives the same facts as its events.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Progress {
    /// What is being done now, for people to read: `computing features`, `training`, ….
    pub stage: String,
    /// Units done of the stage.
    pub done: u64,
    /// Units of the stage.
    pub total: u64,
    /// Share of the whole run, 0 to 1.
    pub fraction: f64,
    /// Seconds to the end of the run, estimated from its pace so far.
    pub eta_seconds: Option<f64>,
    /// Epoch of training, from 1.
    pub epoch: Option<u32>,
    /// Repeat, from 1, of a run with several.
    #[serde(default)]
    pub repeat: Option<u32>,
    /// Newest training loss.
    pub loss: Option<f64>,
    /// Images a second.
    pub images_per_second: Option<f64>,
}

/// What a run needs to be repeated, beside its spec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Provenance {
    /// Digest of the dataset version.
    pub dataset_digest: Sha256,
    /// SHA-256 of the weights of the backbone it starts from; none from random weights.
    pub backbone_sha256: Option<Sha256>,
    /// Version of the program.
    pub code_version: String,
    /// Compute threads of the worker; recorded when a worker takes the run.
    pub threads: Option<u32>,
    /// Images computed at a time, as settled when training began.
    #[serde(default)]
    pub micro_batch: Option<u32>,
}

/// A run as it is shown.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Run {
    /// Identifier.
    pub id: RunId,
    /// What was asked, defaults filled in.
    pub spec: Spec,
    /// What it takes to repeat it.
    pub provenance: Provenance,
    /// Where it is in its life.
    pub status: Status,
    /// How far it is.
    pub progress: Progress,
    /// Runs that a worker will take before this one; present while queued.
    pub queue_position: Option<u64>,
    /// Attempts so far; a worker that dies costs one.
    pub attempt: u32,
    /// Attempts allowed: those until the run got further than ever, and three.
    pub max_attempts: u32,
    /// Whether somebody asked for it to stop.
    pub cancel_requested: bool,
    /// Why it failed.
    pub error: Option<String>,
    /// What to know about how it was computed, such as that a later attempt adds up in another order.
    pub notices: Vec<String>,
    /// What it found and published, once it has succeeded.
    #[serde(flatten, serialize_with = "shown::serialize")]
    #[schema(value_type = shown::Shown)]
    pub outcome: Option<Outcome>,
    /// When it was queued.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When a worker first took it.
    #[serde(with = "time::serde::rfc3339::option")]
    pub started_at: Option<OffsetDateTime>,
    /// When it ended.
    #[serde(with = "time::serde::rfc3339::option")]
    pub finished_at: Option<OffsetDateTime>,
}
