//! The frame of every checkpoint: groups of tensors and values as text in one safetensors file.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::TrainingError;
use crate::domain::RunId;
use crate::nn::Tensors;
use crate::nn::weights::{WeightsError, load_bytes, metadata_of, to_bytes};

/// Key of the run's id in the file's metadata.
const RUN: &str = "run";

/// A checkpoint's file in the making: groups of tensors, and values as text.
pub(in crate::training) struct Writer {
    tensors: Tensors,
    texts: BTreeMap<String, String>,
}

impl Writer {
    /// An empty file that names its run.
    pub(in crate::training) fn of(run: RunId) -> Self {
        let texts = BTreeMap::from([(RUN.to_owned(), run.to_string())]);
        Self { tensors: Tensors::new(), texts }
    }

    /// Adds a value.
    pub(in crate::training) fn text(
        &mut self,
        key: &str,
        value: &impl Serialize,
    ) -> Result<(), TrainingError> {
        self.texts.insert(key.to_owned(), serde_json::to_string(value).map_err(unreadable)?);
        Ok(())
    }

    /// Adds tensors, told apart from others by a prefix that ends with `/`.
    pub(in crate::training) fn group(&mut self, prefix: &str, group: &Tensors) {
        let named = group.iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor.clone()));
        self.tensors.extend(named);
    }

    /// The file.
    pub(in crate::training) fn to_bytes(&self) -> Result<Vec<u8>, TrainingError> {
        Ok(to_bytes(&self.tensors, &self.texts)?)
    }
}

/// A checkpoint's file that is read back.
pub(in crate::training) struct Reader {
    tensors: Tensors,
    texts: BTreeMap<String, String>,
}

impl Reader {
    /// Reads a file.
    pub(in crate::training) fn of(bytes: &[u8]) -> Result<Self, TrainingError> {
        Ok(Self { tensors: load_bytes(bytes)?, texts: metadata_of(bytes)? })
    }

    /// A value.
    pub(in crate::training) fn text<T: DeserializeOwned>(
        &self,
        key: &str,
    ) -> Result<T, TrainingError> {
        let text = self.texts.get(key).map_or("", String::as_str);
        serde_json::from_str(text).map_err(unreadable)
    }

    /// Takes the tensors of a prefix out.
    pub(in crate::training) fn group(&mut self, prefix: &str) -> Tensors {
        let of_group = self.tensors.extract_if(.., |name, _| name.starts_with(prefix));
        of_group.map(|(name, tensor)| (name[prefix.len()..].to_owned(), tensor)).collect()
    }
}

fn unreadable(error: impl std::fmt::Display) -> TrainingError {
    TrainingError::Weights(WeightsError::Unreadable(format!("the checkpoint: {error}")))
}
