//! All that a pretraining run needs to go on as if nothing had happened, in one file.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::gate::Probed;
use crate::domain::RunId;
use crate::nn::Tensors;
use crate::training::checkpoint::{Ended, Reader, Writer};
use crate::training::error::TrainingError;

/// Where the loop is. Every random draw is a function of the seed and of this position.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Position {
    /// Epoch, from 0.
    pub(super) epoch: u32,
    /// Batches done of the epoch.
    pub(super) batch: u64,
    /// Optimiser steps taken.
    pub(super) step: u64,
    /// Why the loop has ended, once it has.
    pub(super) ended: Option<Ended>,
    /// Seconds that training took up to here, over all attempts.
    pub(super) seconds: f64,
    /// The newest point of each curve.
    pub(super) latest: BTreeMap<String, f64>,
}

/// The state of a run between two steps.
pub(super) struct State {
    pub(super) position: Position,
    /// What the gate found before the first step, where there is one.
    pub(super) before: Option<Probed>,
    /// Backbone and objective, running statistics included.
    pub(super) params: Tensors,
    /// The optimiser's moments.
    pub(super) moments: Tensors,
    /// The teacher, where there is one.
    pub(super) teacher: Tensors,
    /// What the objective remembers beside parameters.
    pub(super) objective: Tensors,
}

/// Keys and prefixes of the file.
const POSITION: &str = "position";
const BEFORE: &str = "before";
const PARAMS: &str = "params/";
const MOMENTS: &str = "moments/";
const TEACHER: &str = "teacher/";
const STATE: &str = "objective/";

impl State {
    /// The file. It names its run: equal states of two runs are two files.
    pub(super) fn to_bytes(&self, run: RunId) -> Result<Vec<u8>, TrainingError> {
        let mut file = Writer::of(run);
        file.text(POSITION, &self.position)?;
        file.text(BEFORE, &self.before)?;
        file.group(PARAMS, &self.params);
        file.group(MOMENTS, &self.moments);
        file.group(TEACHER, &self.teacher);
        file.group(STATE, &self.objective);
        file.to_bytes()
    }

    /// Reads the file back.
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, TrainingError> {
        let mut file = Reader::of(bytes)?;
        Ok(Self {
            position: file.text(POSITION)?,
            before: file.text(BEFORE)?,
            params: file.group(PARAMS),
            moments: file.group(MOMENTS),
            teacher: file.group(TEACHER),
            objective: file.group(STATE),
        })
    }
}
