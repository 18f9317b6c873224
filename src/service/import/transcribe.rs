//! The second half of an import: weights and ONNX file are written and held to each other, in a
//! process of its own, so that the memory that takes is not the server's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::ImportError;
use crate::config::Compute;
use crate::domain::Architecture;
use crate::domain::backbone::Parity;
use crate::inference::{ParityError, Runtime, Twins, parity};
use crate::nn::weights::{self, Imported, ReadOptions, WeightsError};
use crate::nn::{self, Tensors};
use crate::onnx::{Export, export};

/// The order to transcribe a file: which, and how.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Transcription {
    /// Exactly the architecture's tensors, as safetensors.
    pub tensors: PathBuf,
    /// The architecture.
    pub architecture: Architecture,
    /// Side of the square input in pixels.
    pub size: u32,
    /// The metadata that both files carry.
    pub metadata: BTreeMap<String, String>,
    /// The device that computes.
    pub compute: Compute,
    /// The folder that the files are written to.
    pub folder: PathBuf,
}

/// The outcome of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Transcribed {
    /// Both files are written.
    Made {
        /// The closeness with which they agree.
        parity: Parity,
        /// Weights that training would move.
        parameters: u64,
    },
    /// They disagree.
    Differs {
        /// The difference found.
        found: f64,
        /// The bound.
        bound: f64,
    },
}

impl Transcription {
    /// The path that the weights are written to.
    pub fn weights(&self) -> PathBuf {
        self.folder.join("weights.safetensors")
    }

    /// The path that the network is written to.
    pub fn onnx(&self) -> PathBuf {
        self.folder.join("network.onnx")
    }

    /// Has another process of `program` do the work.
    pub(super) async fn elsewhere(&self, program: &Path) -> Result<Transcribed, ImportError> {
        let failed = |error: &dyn std::fmt::Display| ImportError::Failed(error.to_string());
        let asked = serde_json::to_string(self).map_err(|error| failed(&error))?;
        let done = tokio::process::Command::new(program)
            .args(["transcribe", &asked])
            .env_remove("DATABASE_URL")
            .stdin(std::process::Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .map_err(|error| failed(&error))?;
        if done.status.success() {
            return serde_json::from_slice(&done.stdout).map_err(|error| failed(&error));
        }
        tracing::warn!(status = %done.status, "an imported backbone could not be transcribed");
        let said = String::from_utf8_lossy(&done.stderr);
        Err(ImportError::Failed(said.lines().last().unwrap_or("it ended early").to_owned()))
    }
}

/// Writes both files and compares them.
pub fn transcribe(asked: &Transcription) -> Result<Transcribed, ImportError> {
    let threads = asked.compute.threads();
    let work = || -> Result<Transcribed, ImportError> {
        let as_told = ReadOptions { architecture: Some(asked.architecture), collapse_depth: false };
        let Imported { tensors, .. } = weights::read(&asked.tensors, as_told)?;
        let written = |path: PathBuf, bytes: &[u8]| {
            std::fs::write(&path, bytes).map_err(|source| WeightsError::Io { path, source })
        };
        written(asked.weights(), &weights::to_bytes(&tensors, &asked.metadata)?)?;
        let onnx = export(&Export {
            architecture: asked.architecture,
            tensors: &tensors,
            size: asked.size,
            head: None,
            metadata: &asked.metadata,
        })?;
        written(asked.onnx(), &onnx)?;
        let runtime = Runtime::load(&asked.compute).map_err(ParityError::from)?;
        let twins = Twins {
            architecture: asked.architecture,
            tensors: &tensors,
            onnx: &onnx,
            size: asked.size,
        };
        let parameters = trained(&tensors);
        match parity(&twins, &runtime, &asked.folder, threads) {
            Ok(parity) => Ok(Transcribed::Made { parity, parameters }),
            Err(ParityError::Beyond { found, bound }) => Ok(Transcribed::Differs { found, bound }),
            Err(error) => Err(error.into()),
        }
    };
    nn::with_threads(threads, work).map_err(|error| ImportError::Failed(error.to_string()))?
}

/// Weights that training would move: running statistics are not counted.
pub(crate) fn trained(tensors: &Tensors) -> u64 {
    let moved = tensors.iter().filter(|(name, _)| !name.contains("running_"));
    moved.map(|(_, tensor)| tensor.elem_count() as u64).sum()
}
