//! The outcome of a run that has succeeded, by its kind.

use serde::{Deserialize, Serialize};

use super::replay::Replayed;
use crate::domain::pretrain::Comparison;
use crate::domain::results::evaluation::Evaluation;
use crate::domain::words::ids::{BackboneId, ModelId};

/// What a run that has succeeded found and published, by its kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Outcome {
    /// Of fine-tuning.
    Finetune {
        /// The evaluation on the test split.
        evaluation: Box<Evaluation>,
        /// The model that it published, unless that was deleted.
        model: Option<ModelId>,
    },
    /// Of pretraining.
    Pretrain {
        /// The backbone that it published, unless that was deleted.
        backbone: Option<BackboneId>,
        /// The frozen probe before and after pretraining, where the run was asked to judge it.
        comparison: Option<Comparison>,
    },
    /// Of a replay.
    Replay {
        /// What it found.
        replayed: Replayed,
    },
}
