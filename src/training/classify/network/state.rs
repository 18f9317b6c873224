//! The resumable state of a training run in one safetensors file.

use serde::{Deserialize, Serialize};

use crate::domain::RunId;
use crate::nn::Tensors;
use crate::nn::optim::Schedule;
use crate::training::classify::repeats::Done;
use crate::training::cycle::{Ended, Point};
use crate::training::run::checkpoint::{Reader, Writer};
use crate::training::run::error::TrainingError;

/// The place of the loop, as a checkpoint has it.
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
    /// The reason why the loop has ended, once it has.
    pub(super) ended: Option<Ended>,
    /// Seconds that training took up to here, over all attempts.
    pub(super) seconds: f64,
    /// The schedule of the learning rate with its state.
    pub(super) schedule: Schedule,
    /// Updates of the moving average.
    pub(super) averaged: u64,
}

impl Position {
    /// The point at which the cycle goes on.
    pub(super) fn point(&self) -> Point {
        let Self { epoch, batch, step, ended, seconds, .. } = *self;
        Point { epoch, batch, step, ended, seconds }
    }

    /// The same with what checkpoints of before say in the words of now.
    fn of_now(mut self) -> Self {
        let former = self.former_best.take().map(|(score, epoch)| (score, epoch + 1));
        self.best_after = self.best_after.or(former);
        self
    }
}

/// All that a run needs to go on as if nothing had happened.
pub(super) struct State {
    /// The place of the present repeat; its number is how many are done.
    pub(super) position: Position,
    /// Parameters that are trained and statistics that follow.
    pub(super) params: Tensors,
    /// The optimiser's moments.
    pub(super) moments: Tensors,
    /// The moving average, where one is kept.
    pub(super) average: Tensors,
    /// The trained tensors as they were after the best epoch, once there is one.
    pub(super) best: Tensors,
    /// The repeats that are done.
    pub(super) done: Done,
}

/// Keys of the file's metadata.
const POSITION: &str = "position";
const DONE: &str = "done";
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

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::{Position, State};
    use crate::domain::RunId;
    use crate::nn::Tensors;
    use crate::nn::optim::{Plateau, Schedule};
    use crate::training::classify::repeats::Done;

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
