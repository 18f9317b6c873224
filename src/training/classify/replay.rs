//! Replaying a finished run: the same code on the same job, listened to as far as some steps.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;

use super::finetune::run;
use super::job::Job;
use crate::domain::Sha256;
use crate::domain::run::{Difference, Method, Progress, Replayed};
use crate::training::run::error::TrainingError;
use crate::training::run::host::{CachedFeatures, Host, HostError, Stop};

/// The losses on record, by step from 1.
pub type Recorded = BTreeMap<u64, f64>;

/// The curve whose points a replay compares.
pub fn series(method: Method) -> &'static str {
    match method {
        Method::Probe => "cv_loss",
        Method::Last | Method::Full | Method::Lora => "train_loss",
    }
}

/// Runs the first `steps` steps of a job again, from its start, and compares each loss with the one
/// on record, bit for bit. The job must be that of the run: same recipe, same images, and the
/// micro-batch that was settled then.
pub fn replay(
    job: &Job,
    host: &dyn Host,
    recorded: &Recorded,
    steps: u32,
) -> Result<Replayed, TrainingError> {
    let recorded: Recorded =
        recorded.iter().take(steps as usize).map(|(step, loss)| (*step, *loss)).collect();
    if recorded.is_empty() {
        return Err(TrainingError::NothingRecorded);
    }
    let listener = Listener {
        host,
        series: series(job.spec.method),
        recorded,
        found: Mutex::new(BTreeMap::new()),
    };
    match run(job, &listener) {
        Ok(_) | Err(TrainingError::Stopped(Stop::Enough)) => {}
        // What broke the run then may break it now; a loss that differs says more.
        Err(error @ TrainingError::Diverged { .. }) => {
            if listener.report().equal {
                return Err(error);
            }
        }
        Err(error) => return Err(error),
    }
    Ok(listener.report())
}

/// The world of a run, as a replay lets it be seen.
struct Listener<'a> {
    host: &'a dyn Host,
    series: &'static str,
    recorded: Recorded,
    found: Mutex<Recorded>,
}

impl Listener<'_> {
    fn has_enough(&self) -> bool {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.len() >= self.recorded.len()
    }

    fn report(&self) -> Replayed {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let pairs = found.iter().filter_map(|(step, found)| {
            Some(Difference { step: *step, recorded: *self.recorded.get(step)?, found: *found })
        });
        let mut differing = pairs.filter(|pair| pair.recorded.to_bits() != pair.found.to_bits());
        let first_difference = differing.next();
        let compared = found.len() as u64;
        let all = found.len() == self.recorded.len();
        Replayed { compared, equal: all && first_difference.is_none(), first_difference }
    }
}

impl Host for Listener<'_> {
    fn original(&self, blob: &Sha256) -> Result<Bytes, HostError> {
        self.host.original(blob)
    }

    fn cached_features(&self, blobs: &[Sha256]) -> Result<CachedFeatures, HostError> {
        self.host.cached_features(blobs)
    }

    fn cache_features(&self, features: &[((Sha256, u32), Vec<f32>)]) -> Result<(), HostError> {
        self.host.cache_features(features)
    }

    fn checkpoint(&self) -> Result<Option<Bytes>, HostError> {
        // A replay begins at the beginning.
        Ok(None)
    }

    fn save_checkpoint(&self, _: Bytes) -> Result<(), HostError> {
        Ok(())
    }

    fn kept(&self, _: f64) -> Result<(), HostError> {
        Ok(())
    }

    fn settle(&self, micro_batch: u32) -> Result<(), HostError> {
        self.host.settle(micro_batch)
    }

    fn progress(&self, progress: &Progress) -> Result<(), HostError> {
        let done = self.found.lock().unwrap_or_else(PoisonError::into_inner).len() as u64;
        let total = self.recorded.len() as u64;
        let fraction = done as f64 / total as f64;
        let progress = Progress { done, total, fraction, eta_seconds: None, ..progress.clone() };
        self.host.progress(&progress)
    }

    fn metric(&self, name: &str, step: u64, value: f64) -> Result<(), HostError> {
        if name == self.series && self.recorded.contains_key(&step) {
            self.found.lock().unwrap_or_else(PoisonError::into_inner).insert(step, value);
        }
        self.host.metric(name, step, value)
    }

    fn log(&self, message: &str) -> Result<(), HostError> {
        self.host.log(message)
    }

    fn stop(&self) -> Option<Stop> {
        self.host.stop().or_else(|| self.has_enough().then_some(Stop::Enough))
    }

    fn now(&self) -> Instant {
        self.host.now()
    }
}
