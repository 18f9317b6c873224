//! The ground that a job of every kind starts from, beside what is asked of it.

use std::path::PathBuf;

use crate::config::Limits;
use crate::domain::RunId;
use crate::domain::dataset::Version;
use crate::domain::forecast::Calibration;
use crate::domain::name::Name;
use crate::domain::run::Provenance;
use crate::inference::Runtime;

/// The ground that a job of any kind stands on: its run, its data, and the machine that does it.
#[derive(Debug)]
pub struct Ground {
    /// The run.
    pub run: RunId,
    /// The facts that it takes to repeat it.
    pub provenance: Provenance,
    /// Name of what is made: a model, or a backbone.
    pub name: Name,
    /// Name of the dataset.
    pub dataset: Name,
    /// The frozen version.
    pub version: Version,
    /// ONNX Runtime.
    pub runtime: Runtime,
    /// Compute threads.
    pub threads: usize,
    /// Folder for temporary files.
    pub scratch: PathBuf,
    /// Limits of decoding and of the caches.
    pub limits: Limits,
    /// Memory that training may use, in bytes.
    pub memory_bytes: u64,
    /// The cost of a step, where it was measured.
    pub calibration: Option<Calibration>,
}
