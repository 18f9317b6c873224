//! The world of a run, made of the store: what training asks for, answered over the database.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;

use crate::domain::Sha256;
use crate::domain::run::{EventBody, Progress};
use crate::store::features::Extractor;
use crate::store::queue::Claimed;
use crate::store::{Store, StoreError, checkpoints, features, matched_pairs, queue};
use crate::training::{CachedFeatures, Host, HostError, Stop};

/// Pause before the database is asked again.
const PAUSE: Duration = Duration::from_secs(1);

/// A request that a run stop, if there is one: written by the worker's heart, read between any two
/// steps.
#[derive(Debug, Default)]
pub(super) struct Control(AtomicU8);

impl Control {
    /// Asks the run to stop. The first reason counts, except that a lost run is lost.
    pub(super) fn stop(&self, stop: Stop) {
        let code = code(stop);
        if stop == Stop::Lost {
            self.0.store(code, Ordering::Release);
        } else {
            // That there was a reason before is fine.
            let _ = self.0.compare_exchange(0, code, Ordering::AcqRel, Ordering::Acquire);
        }
    }

    pub(super) fn asked(&self) -> Option<Stop> {
        let found = self.0.load(Ordering::Acquire);
        [Stop::Cancelled, Stop::HandedBack, Stop::Lost, Stop::Enough]
            .into_iter()
            .find(|stop| code(*stop) == found)
    }
}

fn code(stop: Stop) -> u8 {
    match stop {
        Stop::Cancelled => 1,
        Stop::HandedBack => 2,
        Stop::Lost => 3,
        Stop::Enough => 4,
    }
}

/// The store as a run's world. Called from the training thread, which is none of the runtime's.
pub(super) struct StoreHost<'a> {
    pub(super) store: &'a Store,
    pub(super) run: &'a Claimed,
    /// Whose features are cached, where any are.
    pub(super) extractor: Option<Extractor>,
    pub(super) control: &'a Control,
    pub(super) runtime: Handle,
}

impl StoreHost<'_> {
    /// Does `work`, again and again while the database is away, until the run is lost or stopped.
    fn wait<T, F>(&self, work: impl Fn() -> F) -> Result<T, HostError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        loop {
            match self.runtime.block_on(work()) {
                Err(StoreError::Database(error)) if is_passing(&error) => {
                    if self.control.asked().is_some() {
                        return Err(error.into());
                    }
                    tracing::warn!(run = %self.run.id, %error, "the database is away");
                    std::thread::sleep(PAUSE);
                }
                result => return Ok(result?),
            }
        }
    }

    fn tell(&self, body: &EventBody) -> Result<(), HostError> {
        let held = self.wait(|| queue::tell(&self.store.pool, self.run, body))?;
        self.mind(held);
        Ok(())
    }

    /// Stops the run here when it is another worker's by now.
    fn mind(&self, held: bool) {
        if !held {
            self.control.stop(Stop::Lost);
        }
    }
}

impl Host for StoreHost<'_> {
    fn original(&self, blob: &Sha256) -> Result<Bytes, HostError> {
        self.wait(|| self.store.blobs.bytes(blob))
    }

    fn cached_features(&self, blobs: &[Sha256]) -> Result<CachedFeatures, HostError> {
        let Some(extractor) = &self.extractor else { return Ok(CachedFeatures::new()) };
        self.wait(|| features::get(&self.store.pool, extractor, blobs))
    }

    fn cache_features(&self, vectors: &[((Sha256, u32), Vec<f32>)]) -> Result<(), HostError> {
        let Some(extractor) = &self.extractor else { return Ok(()) };
        self.wait(|| features::put(&self.store.pool, extractor, vectors))
    }

    fn checkpoint(&self) -> Result<Option<Bytes>, HostError> {
        let found = self.wait(|| checkpoints::get(self.store, self.run.id))?;
        for blob in &found.damaged {
            let whole = found.bytes.is_some();
            let then = if whole { "the one before it is used" } else { "the run starts again" };
            self.log(&format!(
                "the newest checkpoint is damaged, its content is not that of SHA-256 {blob}; {then}"
            ))?;
        }
        Ok(found.bytes)
    }

    fn save_checkpoint(&self, bytes: Bytes) -> Result<(), HostError> {
        let held = self.wait(|| checkpoints::put(self.store, self.run, bytes.clone()))?;
        self.mind(held);
        Ok(())
    }

    fn kept(&self, share: f64) -> Result<(), HostError> {
        let held = self.wait(|| queue::keep(&self.store.pool, self.run, share))?;
        self.mind(held);
        Ok(())
    }

    fn settle(&self, micro_batch: u32) -> Result<(), HostError> {
        let held = self.wait(|| queue::settle(&self.store.pool, self.run, micro_batch))?;
        self.mind(held);
        Ok(())
    }

    fn progress(&self, progress: &Progress) -> Result<(), HostError> {
        let held = self.wait(|| queue::report(&self.store.pool, self.run, progress))?;
        self.mind(held);
        Ok(())
    }

    fn metric(&self, name: &str, step: u64, value: f64) -> Result<(), HostError> {
        self.tell(&EventBody::Metric { name: name.to_owned(), step, value })
    }

    fn show(&self, step: u64, pair: &serde_json::Value) -> Result<(), HostError> {
        let held = self.wait(|| matched_pairs::put(&self.store.pool, self.run, step, pair))?;
        self.mind(held);
        Ok(())
    }

    fn log(&self, message: &str) -> Result<(), HostError> {
        self.tell(&EventBody::Log { message: message.to_owned() })
    }

    fn stop(&self) -> Option<Stop> {
        self.control.asked()
    }
}

/// Whether an error says that the database cannot be reached, and not that it refused.
fn is_passing(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut)
}

#[cfg(test)]
mod tests {
    use super::Control;
    use crate::training::Stop;

    #[test]
    fn the_first_reason_counts_but_a_lost_run_is_lost() {
        let control = Control::default();
        assert_eq!(control.asked(), None);

        control.stop(Stop::Cancelled);
        control.stop(Stop::HandedBack);
        assert_eq!(control.asked(), Some(Stop::Cancelled));

        control.stop(Stop::Lost);
        assert_eq!(control.asked(), Some(Stop::Lost));
    }
}
