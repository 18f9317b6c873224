//! Models: what a finished run publishes.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

pub use super::artifact::Artifact;
use super::backbone::Preprocessing;
use super::evaluation::Evaluation;
use crate::domain::data::task::Task;
use crate::domain::words::ids::{BackboneId, ModelId, RunId};
use crate::domain::words::name::Name;
use crate::domain::words::word::UnknownWord;

/// How far a model is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Fresh from a run; nobody has vouched for it.
    Candidate,
    /// Somebody has vouched for it.
    Approved,
    /// Loaded whenever the server starts.
    Serving,
    /// Kept for the record.
    Archived,
}

impl Stage {
    /// The word used in JSON and SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Candidate => "candidate",
            Self::Approved => "approved",
            Self::Serving => "serving",
            Self::Archived => "archived",
        }
    }
}

impl FromStr for Stage {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut known =
            [Self::Candidate, Self::Approved, Self::Serving, Self::Archived].into_iter();
        known
            .find(|stage| stage.as_str() == text)
            .ok_or_else(|| UnknownWord::new("stage of a model", text))
    }
}

/// What a finished run publishes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Model {
    /// Identifier.
    pub id: ModelId,
    /// Name; with `version` unique on the server.
    pub name: Name,
    /// Counts up from 1 within the name.
    pub version: u32,
    /// How far it is trusted.
    pub stage: Stage,
    /// The run that made it.
    pub run: RunId,
    /// The backbone that it started from.
    pub backbone: BackboneId,
    /// The task that it learnt.
    pub task: Task,
    /// Class labels, in the order of the outputs.
    pub labels: Vec<String>,
    /// How pictures are prepared for it.
    pub preprocessing: Preprocessing,
    /// The evaluation on the test split.
    pub evaluation: Evaluation,
    /// The licence that it inherits from its backbone.
    pub license: String,
    /// Its files.
    pub artifacts: Vec<Artifact>,
    /// When it was published.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

/// The probability of one class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ClassProbability {
    /// Class label.
    pub label: String,
    /// Probability, 0 to 1; those of all classes sum to 1.
    pub probability: f32,
}

/// A model's answer for one picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Prediction {
    /// The file as the caller named it, when it did.
    pub file: Option<String>,
    /// Frame within the file, from 0.
    pub frame: u32,
    /// The most probable class.
    pub label: String,
    /// All classes, most probable first.
    pub probabilities: Vec<ClassProbability>,
}
