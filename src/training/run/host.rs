//! The needs of training on the world: pictures, a cache, a place for checkpoints, someone listening.
//!
//! The worker implements it over the store; training itself knows no database.

use std::collections::HashMap;
use std::time::Instant;

use bytes::Bytes;

use crate::domain::Sha256;
use crate::domain::run::Progress;

/// The reason why a run stops before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Somebody asked for it.
    Cancelled,
    /// The worker is going away; the run goes on elsewhere from its checkpoint.
    HandedBack,
    /// The run is another worker's by now.
    Lost,
    /// A replay has seen what it wanted to see.
    Enough,
}

/// The world failed: the database, the blob store. Another attempt may succeed.
pub type HostError = Box<dyn std::error::Error + Send + Sync>;

/// Feature vectors by blob and frame.
pub type CachedFeatures = HashMap<(Sha256, u32), Vec<f32>>;

/// The world around one run.
pub trait Host: Sync {
    /// The stored, de-identified original of an image.
    fn original(&self, blob: &Sha256) -> Result<Bytes, HostError>;

    /// Features of these blobs that were computed before, by this run or by another.
    fn cached_features(&self, blobs: &[Sha256]) -> Result<CachedFeatures, HostError>;

    /// Keeps features for this and for other runs.
    fn cache_features(&self, features: &[((Sha256, u32), Vec<f32>)]) -> Result<(), HostError>;

    /// The newest checkpoint of the run that is whole.
    fn checkpoint(&self) -> Result<Option<Bytes>, HostError>;

    /// Adds a checkpoint; the one before it may be kept as well.
    fn save_checkpoint(&self, bytes: Bytes) -> Result<(), HostError>;

    /// Tells that whoever does the run again need not do this share of it, from 0 to 1: it is in a
    /// checkpoint or in the cache. A run that keeps more and more is not given up. Where nobody counts
    /// attempts nothing is done.
    fn kept(&self, share: f64) -> Result<(), HostError> {
        let _ = share;
        Ok(())
    }

    /// Records how many images are computed at a time, for all further attempts and for replays.
    fn settle(&self, micro_batch: u32) -> Result<(), HostError>;

    /// Tells how far the run is.
    fn progress(&self, progress: &Progress) -> Result<(), HostError>;

    /// Adds a point to a metric's curve.
    fn metric(&self, name: &str, step: u64, value: f64) -> Result<(), HostError>;

    /// Shows the newest matched pair of graphs of a pretraining run, which replaces the one before
    /// it. Its pictures are of the dataset: whoever may not see that may not see these. Without
    /// anyone to look nothing is done.
    fn show(&self, step: u64, picture: &serde_json::Value) -> Result<(), HostError> {
        let _ = (step, picture);
        Ok(())
    }

    /// Adds a line to the run's log; never with patient data.
    fn log(&self, message: &str) -> Result<(), HostError>;

    /// The reason why the run must stop, if it must; asked between any two steps, so it must be
    /// cheap.
    fn stop(&self) -> Option<Stop>;

    /// The time by which a limit of minutes, checkpoints and estimates go.
    fn now(&self) -> Instant {
        Instant::now()
    }
}
