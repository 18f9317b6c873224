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
pub(super) struct Stage {
    pub(super) name: &'static str,
    pub(super) from: f64,
    pub(super) to: f64,
}

/// Where a stage is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct At {
    pub(super) done: u64,
    pub(super) total: u64,
    pub(super) epoch: Option<u32>,
    /// The repeat, from 1, of a run with several.
    pub(super) repeat: Option<u32>,
    pub(super) loss: Option<f64>,
    /// Images handled since the last report was asked for.
    pub(super) images: u64,
}

/// Reports progress and asks whether to go on.
pub(super) struct Reporter<'a> {
    host: &'a dyn Host,
    state: Mutex<State>,
}

struct State {
    stage: &'static str,
    last: Option<Instant>,
    /// When this attempt began to move, and the share that was done by then.
    start: Option<(Instant, f64)>,
    images: u64,
    since: Instant,
}

impl<'a> Reporter<'a> {
    pub(super) fn new(host: &'a dyn Host) -> Self {
        let state = State { stage: "", last: None, start: None, images: 0, since: Instant::now() };
        Self { host, state: Mutex::new(state) }
    }

    /// Reports, when a report is due, and fails when the run must stop.
    pub(super) fn at(&self, stage: Stage, at: At) -> Result<(), TrainingError> {
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
        let now = Instant::now();
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
        let share = if at.total == 0 { 0.0 } else { at.done as f64 / at.total as f64 };
        let fraction = stage.from + (stage.to - stage.from) * share.min(1.0);
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
            eta_seconds: (moved > 0.01).then(|| elapsed / moved * (1.0 - fraction)),
            epoch: at.epoch,
            repeat: at.repeat,
            loss: at.loss,
            images_per_second: (state.images > 0 && seconds > 0.0).then_some(pace),
        })
    }
}
