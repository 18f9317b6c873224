//! The resumable state of full fine-tuning in one safetensors file.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::error::TrainingError;
use crate::domain::RunId;
use crate::nn::weights::{load_bytes, metadata_of, to_bytes};
use crate::nn::{Tensors, weights::WeightsError};

/// Where the loop is. Every random draw is a function of the seed and of this position, so that
/// no generator's state has to be kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Position {
    /// Epoch, from 0.
    pub(super) epoch: u32,
    /// Batches done of the epoch.
    pub(super) batch: u64,
    /// Optimiser steps taken.
    pub(super) step: u64,
    /// The best validation loss so far, and the epoch (from 0) that reached it.
    pub(super) best: Option<(f64, u32)>,
    /// Whether the loop has ended.
    pub(super) finished: bool,
}

/// All that a run needs to go on as if nothing had happened.
pub(super) struct State {
    pub(super) position: Position,
    /// Parameters and running statistics.
    pub(super) params: Tensors,
    /// The optimiser's moments.
    pub(super) moments: Tensors,
    /// Parameters of the best epoch, once there is one.
    pub(super) best: Tensors,
}

/// Keys of the file's metadata.
const POSITION: &str = "position";
const RUN: &str = "run";
/// Prefixes of the three groups of tensors.
const PARAMS: &str = "params/";
const MOMENTS: &str = "moments/";
const BEST: &str = "best/";

impl State {
    /// The file. It names its run: equal states of two runs are two files.
    pub(super) fn to_bytes(&self, run: RunId) -> Result<Vec<u8>, TrainingError> {
        let mut all = Tensors::new();
        for (prefix, group) in
            [(PARAMS, &self.params), (MOMENTS, &self.moments), (BEST, &self.best)]
        {
            all.extend(
                group.iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor.clone())),
            );
        }
        let position = serde_json::to_string(&self.position).map_err(unreadable)?;
        let metadata =
            BTreeMap::from([(POSITION.to_owned(), position), (RUN.to_owned(), run.to_string())]);
        Ok(to_bytes(&all, &metadata)?)
    }

    /// Reads the file back.
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, TrainingError> {
        let metadata = metadata_of(bytes)?;
        let position = metadata.get(POSITION).map_or("", String::as_str);
        let position = serde_json::from_str(position).map_err(unreadable)?;
        let mut state = Self {
            position,
            params: Tensors::new(),
            moments: Tensors::new(),
            best: Tensors::new(),
        };
        for (name, tensor) in load_bytes(bytes)? {
            let group = if let Some(name) = name.strip_prefix(PARAMS) {
                (&mut state.params, name)
            } else if let Some(name) = name.strip_prefix(MOMENTS) {
                (&mut state.moments, name)
            } else if let Some(name) = name.strip_prefix(BEST) {
                (&mut state.best, name)
            } else {
                continue;
            };
            group.0.insert(group.1.to_owned(), tensor);
        }
        Ok(state)
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

    #[test]
    fn a_checkpoint_comes_back_bit_for_bit() {
        let tensor = |values: &[f32]| Tensor::new(values, &Device::Cpu).expect("a tensor");
        let group = |value: f32| Tensors::from([("w".to_owned(), tensor(&[value, 1e-40, -0.0]))]);
        let position = Position {
            epoch: 3,
            batch: 2,
            step: 17,
            best: Some((0.123_456_789_012_345_68, 1)),
            finished: false,
        };
        let state = State { position, params: group(1.0), moments: group(2.0), best: group(3.0) };

        let bytes = state.to_bytes(RunId::new()).expect("written");
        let back = State::from_bytes(&bytes).expect("read");

        let bits = |tensors: &Tensors| {
            let values = tensors["w"].to_vec1::<f32>().expect("values");
            values.into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        assert_eq!(back.position, state.position);
        assert_eq!(bits(&back.params), bits(&state.params));
        assert_eq!(bits(&back.moments), bits(&state.moments));
        assert_eq!(bits(&back.best), bits(&state.best));
    }
}
