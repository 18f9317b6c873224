//! The failures between a prepared picture and a network's answer.

use std::path::PathBuf;

/// A failure of inference.
#[derive(Debug, Clone, thiserror::Error)]
pub enum InferenceError {
    /// The shared library is not where it was looked for.
    #[error(
        "ONNX Runtime was not found (looked at {}); run scripts/setup.sh, or set ORT_DYLIB_PATH to \
         libonnxruntime.so of version 1.22 or newer",
        looked_at.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    NoRuntime {
        /// The paths where it was looked for.
        looked_at: Vec<PathBuf>,
    },
    /// The library is there and does not load.
    #[error("ONNX Runtime at {path} does not load: {reason}")]
    BrokenRuntime {
        /// The library.
        path: PathBuf,
        /// The words of the loader.
        reason: String,
    },
    /// The configured device cannot be used.
    #[error("the CUDA device cannot be used by ONNX Runtime: {0}")]
    NoCuda(String),
    /// A file that is not a network of ours.
    #[error("the network does not load: {0}")]
    BadNetwork(String),
    /// The input has the wrong number of values.
    #[error("{images} image(s) need {expected} values; {found} were given")]
    WrongInput {
        /// Images announced.
        images: usize,
        /// Values that they need.
        expected: usize,
        /// Values found.
        found: usize,
    },
    /// The session failed.
    #[error("the network failed: {0}")]
    Failed(String),
    /// The queue of the network is full.
    #[error(
        "{waiting} requests wait for this network already; the limit is {max} \
         (LVMED_LIMIT_PREDICT_QUEUE)"
    )]
    Busy {
        /// Requests waiting.
        waiting: usize,
        /// The limit.
        max: usize,
    },
    /// The answer took too long.
    #[error("no answer within {seconds} seconds (LVMED_LIMIT_PREDICT_SECONDS)")]
    Timeout {
        /// The limit.
        seconds: u64,
    },
}
