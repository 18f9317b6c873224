//! Progress as people want it: one share of the whole, an estimate of the rest, not too often.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::error::TrainingError;
use super::host::Host;
use crate::domain::run::Progress;

/// The least time between two reports of one stage.
const INTERVAL: Duration = Duration::from_millis(250);

/// A stage of a run and the share of the whole that it covers.
#[derive(Debug, Clone, Copy)]
pub(in crate::training) struct Stage {
    pub(in crate::training) name: &'static str,
    pub(in crate::training) from: f64,
    pub(in crate::training) to: f64,
}

impl Stage {
    /// The share of the whole when this share of the stage is done.
    pub(in crate::training) fn share(&self, done: f64) -> f64 {
        self.from + (self.to - self.from) * done.clamp(0.0, 1.0)
    }
}

/// The place where a stage is.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::training) struct At {
    pub(in crate::training) done: u64,
    pub(in crate::training) total: u64,
    pub(in crate::training) epoch: Option<u32>,
    /// The repeat, from 1, of a run with several.
    pub(in crate::training) repeat: Option<u32>,
    pub(in crate::training) loss: Option<f64>,
    /// Images handled since the last report was asked for.
    pub(in crate::training) images: u64,
    /// The time that is allowed, where it is limited.
    pub(in crate::training) allowance: Option<Allowance>,
}

/// The time that a limit of minutes leaves.
#[derive(Debug, Clone, Copy)]
pub(in crate::training) struct Allowance {
    /// The share of the stage's time that is used up, from 0 to 1.
    pub(in crate::training) used: f64,
    /// Seconds that training may still take, all further repeats included.
    pub(in crate::training) left_seconds: f64,
}

/// Reports progress and asks whether to go on.
pub(in crate::training) struct Reporter<'a> {
    host: &'a dyn Host,
    state: Mutex<State>,
}

struct State {
    stage: &'static str,
    last: Option<Instant>,
    /// The time at which this attempt began to move, and the share that was done by then.
    start: Option<(Instant, f64)>,
    images: u64,
    since: Instant,
}

impl<'a> Reporter<'a> {
    pub(in crate::training) fn new(host: &'a dyn Host) -> Self {
        let state = State { stage: "", last: None, start: None, images: 0, since: host.now() };
        Self { host, state: Mutex::new(state) }
    }

    /// Reports, when a report is due, and fails when the run must stop.
    pub(in crate::training) fn at(&self, stage: Stage, at: At) -> Result<(), TrainingError> {
        if let Some(stop) = self.host.stop() {
            return Err(TrainingError::Stopped(stop));
        }
        match self.due(stage, at) {
            Some(progress) => Ok(self.host.progress(&progress)?),
            None => Ok(()),
        }
    }

    fn due(&self, stage: Stage, at: At) -> Option<Progress> {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let now = self.host.now();
        let is_new = state.stage != stage.name;
        if is_new {
            (state.images, state.since) = (0, now);
        }
        state.images += at.images;
        let ended = at.done >= at.total;
        let is_due = state.last.is_none_or(|last| now.duration_since(last) >= INTERVAL);
        if !(is_new || ended || is_due) {
            return None;
        }
        state.stage = stage.name;
        state.last = Some(now);
        let steps = if at.total == 0 { 0.0 } else { at.done as f64 / at.total as f64 };
        // Whichever ends the stage first.
        let share = at.allowance.map_or(steps, |allowance| steps.max(allowance.used));
        let fraction = stage.share(share);
        let (start, begun) = *state.start.get_or_insert((now, fraction));
        let moved = fraction - begun;
        let elapsed = now.duration_since(start).as_secs_f64();
        let seconds = now.duration_since(state.since).as_secs_f64();
        let pace = state.images as f64 / seconds.max(1e-9);
        Some(Progress {
            stage: stage.name.to_owned(),
            done: at.done,
            total: at.total,
            fraction,
            eta_seconds: sooner(
                (moved > 0.01).then(|| elapsed / moved * (1.0 - fraction)),
                at.allowance.map(|allowance| allowance.left_seconds),
            ),
            epoch: at.epoch,
            repeat: at.repeat,
            loss: at.loss,
            images_per_second: (state.images > 0 && seconds > 0.0).then_some(pace),
        })
    }
}

/// The smaller of what is known.
fn sooner(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::{Allowance, At, Reporter, Stage};
    use crate::domain::Sha256;
    use crate::domain::run::Progress;
    use crate::training::run::host::{CachedFeatures, Host, HostError, Stop};

    /// A world in which nothing is there.
    struct Nowhere;

    impl Host for Nowhere {
        fn original(&self, _: &Sha256) -> Result<bytes::Bytes, HostError> {
            Err("nothing is there".into())
        }

        fn cached_features(&self, _: &[Sha256]) -> Result<CachedFeatures, HostError> {
            Ok(CachedFeatures::new())
        }

        fn cache_features(&self, _: &[((Sha256, u32), Vec<f32>)]) -> Result<(), HostError> {
            Ok(())
        }

        fn checkpoint(&self) -> Result<Option<bytes::Bytes>, HostError> {
            Ok(None)
        }

        fn save_checkpoint(&self, _: bytes::Bytes) -> Result<(), HostError> {
            Ok(())
        }

        fn settle(&self, _: u32) -> Result<(), HostError> {
            Ok(())
        }

        fn progress(&self, _: &Progress) -> Result<(), HostError> {
            Ok(())
        }

        fn metric(&self, _: &str, _: u64, _: f64) -> Result<(), HostError> {
            Ok(())
        }

        fn log(&self, _: &str) -> Result<(), HostError> {
            Ok(())
        }

        fn stop(&self) -> Option<Stop> {
            None
        }
    }

    #[test]
    fn a_limit_of_minutes_moves_the_bar_and_bounds_the_time_left() {
        let reporter = Reporter::new(&Nowhere);
        let stage = Stage { name: "training", from: 0.0, to: 0.5 };
        let at = |done, allowance| At { done, total: 1000, allowance, ..At::default() };
        let allowance = |used, left_seconds| Some(Allowance { used, left_seconds });

        // One step of a thousand says nothing of the pace yet, but the limit is known.
        let early = reporter.due(stage, at(1, allowance(0.1, 54.0))).expect("a new stage");
        let other = Stage { name: "evaluating", ..stage };
        let late = reporter.due(other, at(2, allowance(0.8, 12.0))).expect("a new stage");
        let free = reporter.due(stage, at(500, None)).expect("a new stage");

        assert_eq!((early.fraction, early.eta_seconds), (0.05, Some(54.0)));
        assert_eq!(late.fraction, 0.4);
        assert!(late.eta_seconds.is_some_and(|left| left <= 12.0), "{late:?}");
        assert_eq!(free.fraction, 0.25);
    }
}
