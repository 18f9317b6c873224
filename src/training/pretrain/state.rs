//! All that a pretraining run needs to go on as if nothing had happened, in one file.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::gate::Probed;
use crate::domain::RunId;
use crate::nn::Tensors;
use crate::training::cycle::{Ended, Point};
use crate::training::run::checkpoint::{Reader, Writer};
use crate::training::run::error::TrainingError;

/// The place of the loop, as a checkpoint has it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Position {
    /// Epoch, from 0.
    pub(super) epoch: u32,
    /// Batches done of the epoch.
    pub(super) batch: u64,
    /// Optimiser steps taken.
    pub(super) step: u64,
    /// The reason why the loop has ended, once it has.
    pub(super) ended: Option<Ended>,
    /// Seconds that training took up to here, over all attempts.
    pub(super) seconds: f64,
    /// The newest point of each curve.
    pub(super) latest: BTreeMap<String, f64>,
    /// The first point of each curve; none of checkpoints of former versions.
    #[serde(default)]
    pub(super) first: BTreeMap<String, f64>,
}

impl Position {
    /// The point at which the cycle goes on.
    pub(super) fn point(&self) -> Point {
        let Self { epoch, batch, step, ended, seconds, .. } = *self;
        Point { epoch, batch, step, ended, seconds }
    }
}

/// The state of a run between two steps.
pub(super) struct State {
    pub(super) position: Position,
    /// The finding of the gate before the first step, where there is one and this version can read
    /// it.
    pub(super) before: Option<Probed>,
    /// Backbone and objective, running statistics included.
    pub(super) params: Tensors,
    /// The optimiser's moments.
    pub(super) moments: Tensors,
    /// The teacher, where there is one.
    pub(super) teacher: Tensors,
    /// The tensors that the objective remembers beside parameters.
    pub(super) objective: Tensors,
}

/// Keys and prefixes of the file.
const POSITION: &str = "position";
const BEFORE: &str = "before";
const PROBED: &str = "before/";
const PROBES: &str = "probes";
const PARAMS: &str = "params/";
const MOMENTS: &str = "moments/";
const TEACHER: &str = "teacher/";
const STATE: &str = "objective/";

impl State {
    /// The file. It names its run: equal states of two runs are two files.
    pub(super) fn to_bytes(&self, run: RunId) -> Result<Vec<u8>, TrainingError> {
        let mut file = Writer::of(run);
        file.text(POSITION, &self.position)?;
        let before = self.before.as_ref().map(Probed::to_parts).transpose()?;
        file.text(BEFORE, &before.as_ref().map(|(rule, _)| *rule))?;
        if let Some((_, probes)) = before {
            file.group(PROBED, &Tensors::from([(PROBES.to_owned(), probes)]));
        }
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
            before: before(&mut file)?,
            params: file.group(PARAMS),
            moments: file.group(MOMENTS),
            teacher: file.group(TEACHER),
            objective: file.group(STATE),
        })
    }
}

/// The finding of the gate before. Former versions had the probabilities as text, found by rules that
/// are no longer: that is as good as none.
fn before(file: &mut Reader) -> Result<Option<Probed>, TrainingError> {
    let rule: Value = file.text(BEFORE)?;
    let rule = rule.as_u64().and_then(|rule| u32::try_from(rule).ok());
    let mut probed = file.group(PROBED);
    let parts = rule.zip(probed.remove(PROBES));
    parts.map(|(rule, probes)| Probed::of_parts(rule, &probes)).transpose()
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::{BEFORE, POSITION, Position, Probed, State};
    use crate::domain::RunId;
    use crate::nn::Tensors;
    use crate::training::run::checkpoint::Writer;

    #[test]
    fn what_the_gate_found_before_comes_back_and_that_of_former_versions_is_found_anew() {
        let values = Tensor::new(vec![vec![vec![0.25_f32, 0.75], vec![1.0, 0.0]]], &Device::Cpu);
        let before = Probed::of_parts(3, &values.expect("a tensor")).expect("three dimensions");
        let empty = Tensors::new;
        let state = State {
            position: Position { step: 7, ..Position::default() },
            before: Some(before),
            params: empty(),
            moments: empty(),
            teacher: empty(),
            objective: empty(),
        };
        let bytes = state.to_bytes(RunId::new()).expect("written");
        let mut former = Writer::of(RunId::new());
        former.text(POSITION, &Position::default()).expect("written");
        former.text(BEFORE, &Some([[[0.5, 0.5]]])).expect("written");

        let read = State::from_bytes(&bytes).expect("read");
        let old = State::from_bytes(&former.to_bytes().expect("written")).expect("read");

        assert_eq!((read.before, read.position.step), (state.before, 7));
        assert_eq!(old.before, None);
    }
}
