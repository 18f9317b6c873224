//! Weights in files: read from checkpoints of strangers, written as safetensors.

mod random;
mod read;
mod safetensors;

use std::path::PathBuf;

use crate::nn::backbone::architecture::Architecture;
use crate::nn::trace::without_trace;
use serde::{Deserialize, Serialize};

pub use random::random;
pub use read::{Imported, ReadOptions, read};
pub use safetensors::{load, load_bytes, metadata_of, to_bytes, write};

/// The reason why weights cannot be used.
#[derive(Debug, thiserror::Error, Serialize, Deserialize)]
pub enum WeightsError {
    /// Neither safetensors nor a torch zip checkpoint.
    #[error(
        "the file is neither a safetensors file nor a torch checkpoint (.pth, .pt or .torch as \
         written by PyTorch 1.6 or newer)"
    )]
    NotACheckpoint,
    /// A pickle from before PyTorch 1.6, which only running it could read.
    #[error(
        "the file is a legacy PyTorch checkpoint (before 1.6), which cannot be read without \
         running code; load it in PyTorch once and save it again with torch.save or safetensors"
    )]
    LegacyPickle,
    /// A checkpoint that cannot be read.
    #[error("the checkpoint cannot be read: {0}")]
    Unreadable(String),
    /// The tensors fit no known architecture.
    #[error(
        "the checkpoint fits none of the known architectures ({}); it holds {count} tensors, such as {sample}",
        Architecture::words()
    )]
    UnknownArchitecture {
        /// Tensors in the file.
        count: usize,
        /// Some of their names.
        sample: String,
    },
    /// It fits but for kernels with a depth, which those of networks for pictures have not.
    #[error(
        "the checkpoint is a {architecture} for volumes: {kernels} of its kernels are 3-D; it can be \
         imported with its kernels flattened (collapse_depth)"
    )]
    HasDepth {
        /// The architecture that it is without the depth.
        architecture: String,
        /// Kernels with a depth.
        kernels: usize,
    },
    /// Names or shapes differ from the architecture's.
    #[error(
        "the checkpoint does not fit {architecture}: {}",
        describe(.missing, .unexpected, .wrong_shape)
    )]
    Mismatch {
        /// The architecture compared with.
        architecture: String,
        /// Tensors that the architecture has and the file has not.
        missing: Vec<String>,
        /// Tensors that the file has and the architecture has not.
        unexpected: Vec<String>,
        /// Name, expected shape, shape found.
        wrong_shape: Vec<(String, Vec<usize>, Vec<usize>)>,
    },
    /// A value that no training produces on purpose.
    #[error("tensor {0} holds values that are not finite")]
    NonFinite(String),
    /// A tensor could not be handled.
    #[serde(skip)]
    #[error("a tensor could not be handled: {}", without_trace(&.0.to_string()))]
    Tensor(#[from] candle_core::Error),
    /// The file could not be read or written.
    #[error("{path}: {source}")]
    #[serde(skip)]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },
}

impl WeightsError {
    /// The same as one that can be told to another process: what only this one can handle becomes
    /// words, without a path and without a trace.
    #[must_use]
    pub fn plain(self) -> Self {
        match self {
            Self::Tensor(error) => Self::Unreadable(without_trace(&error.to_string()).to_owned()),
            Self::Io { source, .. } => Self::Unreadable(source.kind().to_string()),
            other => other,
        }
    }
}

/// Examples of each kind of difference that the message has.
const EXAMPLES: usize = 3;

impl WeightsError {
    /// Each difference between the file and the architecture, a line each.
    pub fn differences(&self) -> Vec<String> {
        let Self::Mismatch { missing, unexpected, wrong_shape, .. } = self else {
            return Vec::new();
        };
        let missing = missing.iter().map(|name| format!("missing: {name}"));
        let unexpected = unexpected.iter().map(|name| format!("unexpected: {name}"));
        let wrong = wrong_shape.iter().map(|one| format!("wrong shape: {}", reshaped(one)));
        missing.chain(unexpected).chain(wrong).collect()
    }
}

fn reshaped((name, expected, found): &(String, Vec<usize>, Vec<usize>)) -> String {
    format!("{name} is {found:?}, expected {expected:?}")
}

/// The differences in one sentence: how many of each kind, with examples.
fn describe(
    missing: &[String],
    unexpected: &[String],
    wrong_shape: &[(String, Vec<usize>, Vec<usize>)],
) -> String {
    let wrong_shape: Vec<String> = wrong_shape.iter().map(reshaped).collect();
    let kinds = [
        (missing, "tensor is missing", "tensors are missing"),
        (unexpected, "is unknown to it", "are unknown to it"),
        (&wrong_shape, "has another shape", "have another shape"),
    ];
    let told =
        kinds.into_iter().filter(|(names, ..)| !names.is_empty()).map(|(names, one, many)| {
            let (count, more) = (names.len(), names.len().saturating_sub(EXAMPLES));
            let shown: Vec<&str> = names.iter().take(EXAMPLES).map(String::as_str).collect();
            let rest = if more > 0 { ", …" } else { "" };
            format!("{count} {} ({}{rest})", if count == 1 { one } else { many }, shown.join(", "))
        });
    told.collect::<Vec<_>>().join("; ")
}
