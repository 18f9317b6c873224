//! The resumable state of a training run in one safetensors file.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::TrainingError;
use super::repeats::Done;
use crate::domain::RunId;
use crate::nn::optim::Schedule;
use crate::nn::weights::{load_bytes, metadata_of, to_bytes};
use crate::nn::{Tensors, weights::WeightsError};

/// Why the epochs of a repeat ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Ended {
    /// All epochs were run.
    AllEpochs,
    /// The validation had not improved for as long as was asked.
    Patience,
    /// The minutes were used up.
    TimeBudget,
}

/// Where the loop is. Every random draw is a function of the seed and of this position, so that
/// no generator's state has to be kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Position {
    /// Epoch, from 0.
    pub(super) epoch: u32,
    /// Batches done of the epoch.
    pub(super) batch: u64,
    /// Optimiser steps taken.
    pub(super) step: u64,
    /// The best validation score so far (higher is better), and after how many epochs it was reached: 0
    /// for a fitted start.
    pub(super) best_after: Option<(f64, u32)>,
    /// The same as checkpoints had it before a start was a candidate: the epoch from 0.
    #[serde(default, rename = "best", skip_serializing)]
    pub(super) former_best: Option<(f64, u32)>,
    /// Why the loop has ended, once it has.
    pub(super) ended: Option<Ended>,
    /// Seconds that training took up to here, over all attempts.
    pub(super) seconds: f64,
    /// The schedule of the learning rate with its state.
    pub(super) schedule: Schedule,
    /// Updates of the moving average.
    pub(super) averaged: u64,
}

impl Position {
    /// The same with what checkpoints of before say in the words of now.
    fn of_now(mut self) -> Self {
        let former = self.former_best.take().map(|(score, epoch)| (score, epoch + 1));
        self.best_after = self.best_after.or(former);
        self
    }
}

/// All that a run needs to go on as if nothing had happened.
pub(super) struct State {
    /// Where the present repeat is; its number is how many are done.
    pub(super) position: Position,
    /// Parameters that are trained and statistics that follow.
    pub(super) params: Tensors,
    /// The optimiser's moments.
    pub(super) moments: Tensors,
    /// The moving average, where one is kept.
    pub(super) average: Tensors,
    /// What is trained as it was after the best epoch, once there is one.
    pub(super) best: Tensors,
    /// The repeats that are done.
    pub(super) done: Done,
}

/// Keys of the file's metadata.
const POSITION: &str = "position";
const DONE: &str = "done";
const RUN: &str = "run";
/// Prefixes of the groups of tensors.
const PARAMS: &str = "params/";
const MOMENTS: &str = "moments/";
const AVERAGE: &str = "average/";
const BEST: &str = "best/";
const KEPT: &str = "kept/";

impl State {
    /// The file. It names its run: equal states of two runs are two files.
    pub(super) fn to_bytes(&self, run: RunId) -> Result<Vec<u8>, TrainingError> {
        let mut file = Writer::of(run);
        file.text(POSITION, &self.position)?;
        file.text(DONE, &self.done)?;
        for (prefix, group) in [
            (PARAMS, &self.params),
            (MOMENTS, &self.moments),
            (AVERAGE, &self.average),
            (BEST, &self.best),
            (KEPT, &self.done.kept),
        ] {
            file.group(prefix, group);
        }
        file.to_bytes()
    }

    /// Reads the file back.
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, TrainingError> {
        let mut file = Reader::of(bytes)?;
        let mut done: Done = file.text(DONE)?;
        done.kept = file.group(KEPT);
        let position = file.text::<Position>(POSITION)?.of_now();
        Ok(Self {
            position,
            params: file.group(PARAMS),
            moments: file.group(MOMENTS),
            average: file.group(AVERAGE),
            best: file.group(BEST),
            done,
        })
    }
}

/// A checkpoint's file in the making: groups of tensors, and values as text.
pub(super) struct Writer {
    tensors: Tensors,
    texts: BTreeMap<String, String>,
}

impl Writer {
    /// An empty file that names its run.
    pub(super) fn of(run: RunId) -> Self {
        let texts = BTreeMap::from([(RUN.to_owned(), run.to_string())]);
        Self { tensors: Tensors::new(), texts }
    }

    /// Adds a value.
    pub(super) fn text(&mut self, key: &str, value: &impl Serialize) -> Result<(), TrainingError> {
        self.texts.insert(key.to_owned(), serde_json::to_string(value).map_err(unreadable)?);
        Ok(())
    }

    /// Adds tensors, told apart from others by a prefix that ends with `/`.
    pub(super) fn group(&mut self, prefix: &str, group: &Tensors) {
        let named = group.iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor.clone()));
        self.tensors.extend(named);
    }

    /// The file.
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, TrainingError> {
        Ok(to_bytes(&self.tensors, &self.texts)?)
    }
}

/// A checkpoint's file that is read back.
pub(super) struct Reader {
    tensors: Tensors,
    texts: BTreeMap<String, String>,
}

impl Reader {
    /// Reads a file.
    pub(super) fn of(bytes: &[u8]) -> Result<Self, TrainingError> {
        Ok(Self { tensors: load_bytes(bytes)?, texts: metadata_of(bytes)? })
    }

    /// A value.
    pub(super) fn text<T: DeserializeOwned>(&self, key: &str) -> Result<T, TrainingError> {
        let text = self.texts.get(key).map_or("", String::as_str);
        serde_json::from_str(text).map_err(unreadable)
    }

    /// Takes the tensors of a prefix out.
    pub(super) fn group(&mut self, prefix: &str) -> Tensors {
        let of_group = self.tensors.extract_if(.., |name, _| name.starts_with(prefix));
        of_group.map(|(name, tensor)| (name[prefix.len()..].to_owned(), tensor)).collect()
    }
}

fn unreadable(error: impl std::fmt::Display) -> TrainingError {
    TrainingError::Weights(WeightsError::Unreadable(format!("the checkpoint: {error}")))
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::{Position, State};
    use crate::domain::RunId;
    use crate::nn::Tensors;
    use crate::nn::optim::{Plateau, Schedule};
    use crate::training::repeats::Done;

    #[test]
    fn the_best_epoch_of_a_checkpoint_from_before_is_counted_as_it_is_now() {
        let position = |best: &str| -> Position {
            let text = format!(
                r#"{{"epoch": 5, "batch": 0, "step": 9, {best}, "ended": null, "seconds": 1.0,
                     "schedule": {}, "averaged": 0}}"#,
                serde_json::to_string(&Schedule::Plateau(Plateau::new(0.1, 3))).expect("text")
            );
            serde_json::from_str::<Position>(&text).expect("it reads").of_now()
        };

        assert_eq!(position(r#""best": [0.5, 3]"#).best_after, Some((0.5, 4)));
        assert_eq!(position(r#""best": null"#).best_after, None);
        assert_eq!(position(r#""best_after": [0.5, 3]"#).best_after, Some((0.5, 3)));
    }

    #[test]
    fn a_checkpoint_comes_back_bit_for_bit() {
        let tensor = |values: &[f32]| Tensor::new(values, &Device::Cpu).expect("a tensor");
        let group = |value: f32| Tensors::from([("w".to_owned(), tensor(&[value, 1e-40, -0.0]))]);
        let position = Position {
            epoch: 3,
            batch: 2,
            step: 17,
            best_after: Some((0.123_456_789_012_345_68, 1)),
            former_best: None,
            ended: None,
            seconds: 1.0 / 3.0,
            schedule: Schedule::Plateau(Plateau::new(0.1, 3)),
            averaged: 17,
        };
        let state = State {
            position,
            params: group(1.0),
            moments: group(2.0),
            average: group(3.0),
            best: group(4.0),
            done: Done { kept: group(5.0), ..Done::default() },
        };

        let bytes = state.to_bytes(RunId::new()).expect("written");
        let back = State::from_bytes(&bytes).expect("read");

        let bits = |tensors: &Tensors| {
            let values = tensors["w"].to_vec1::<f32>().expect("values");
            values.into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        assert_eq!(back.position, state.position);
        for (found, kept) in [
            (&back.params, &state.params),
            (&back.moments, &state.moments),
            (&back.average, &state.average),
            (&back.best, &state.best),
            (&back.done.kept, &state.done.kept),
        ] {
            assert_eq!(bits(found), bits(kept));
        }
    }
}
