//! The reasons why a run was not queued, or not estimated.

use crate::domain::forecast::TooLarge;
use crate::domain::pretrain::BatchTooLarge;
use crate::domain::training::BadSetting;
use crate::estimate::CannotMeasure;
use crate::service::violation::{Violation, sentence};
use crate::store::StoreError;

/// The reason why a run was not queued, or not estimated.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The recipe cannot be followed; all that is wrong with it.
    #[error("{}", sentence(.0))]
    Recipe(Vec<Violation>),
    /// It would not fit into the memory.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// A batch of it would not fit into the memory.
    #[error(transparent)]
    BatchTooLarge(#[from] BatchTooLarge),
    /// The cost of a step here could not be measured.
    #[error(transparent)]
    Unmeasured(#[from] CannotMeasure),
    /// A replay is asked for by its run, not by a recipe.
    #[error("a replay is asked for by the run that is replayed")]
    IsReplay,
    /// The run cannot be replayed.
    #[error("only a fine-tuning run that has succeeded can be replayed")]
    NotReplayable,
    /// The queue is full.
    #[error("{queued} runs are queued; the limit is {max} (LVMED_LIMIT_QUEUED_RUNS)")]
    QueueFull {
        /// Runs that are queued.
        queued: u64,
        /// The limit.
        max: u64,
    },
    /// The thing it names could not be looked up, or the run not be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl SubmitError {
    /// One thing is wrong with the recipe.
    pub(super) fn wrong(pointer: &str, detail: impl Into<String>) -> Self {
        Self::Recipe(vec![Violation::new(pointer, detail)])
    }
}

impl From<Vec<BadSetting>> for SubmitError {
    fn from(errors: Vec<BadSetting>) -> Self {
        let told = |error: &BadSetting| Violation::new(error.pointer(), error.to_string());
        Self::Recipe(errors.iter().map(told).collect())
    }
}
