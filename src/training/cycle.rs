//! The loop under every kind of training: epochs of steps, resumable anywhere between two of them.
//!
//! It owns where a run is, the time that it may take and when it is kept. What is learnt, and how, is a
//! [`Task`].

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::training::data::Place;
use crate::training::run::error::TrainingError;
use crate::training::run::host::{Host, Stop};
use crate::training::run::reporter::{Allowance, At, Reporter, Stage};

/// A checkpoint at the end of an epoch may take this share of the time since the one before it.
const CHECKPOINT_SHARE: f64 = 0.1;

/// The reason why the epochs of a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Ended {
    /// All epochs were run.
    AllEpochs,
    /// The validation had not improved for as long as was asked.
    Patience,
    /// The minutes were used up.
    TimeBudget,
}

/// The point in a run that is in training. Every random draw is a function of the seed and of this,
/// so that no generator's state has to be kept.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Point {
    /// Epoch, from 0.
    pub(super) epoch: u32,
    /// Batches done of the epoch.
    pub(super) batch: u64,
    /// Optimiser steps taken.
    pub(super) step: u64,
    /// The reason why the loop has ended, once it has.
    pub(super) ended: Option<Ended>,
    /// Seconds that training took up to the newest checkpoint, over all attempts.
    pub(super) seconds: f64,
}

/// The terms of a run: how far it may go, and how it is told and kept on the way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    /// Epochs at most.
    pub(super) epochs: u32,
    /// Steps of all epochs.
    pub(super) steps: u64,
    /// Steps that are done whatever the time.
    pub(super) least_steps: u64,
    /// Seconds that it may take; none for as many as it needs.
    pub(super) most_seconds: Option<f64>,
    /// Repeats after this one, each of which may take as long.
    pub(super) further: u32,
    /// The time after which a long epoch is kept before its end.
    pub(super) checkpoint_every: Duration,
    /// The share of the whole that it covers, as people see it.
    pub(super) stage: Stage,
    /// The share of the whole that its checkpoints keep, as whoever counts attempts sees it.
    pub(super) kept: Stage,
    /// The repeat, from 1, of a run with several.
    pub(super) repeat: Option<u32>,
}

/// The result of a step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stepped {
    /// The loss before it.
    pub(super) loss: f64,
    /// Batches that it took.
    pub(super) batches: u64,
    /// Images that it took.
    pub(super) images: u64,
}

/// The way in which an epoch is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closing {
    /// It was cut short and does not count.
    Uncounted,
    /// It counts, and another one follows where any is left.
    Counted,
    /// It counts, and none follows.
    Last(Ended),
}

/// Something that is learnt in steps.
pub(super) trait Task {
    /// The source of its batches.
    type Batches<'s>;
    /// A checkpoint of it that was read.
    type State;

    /// Does what comes before the first step of an attempt.
    fn begin(&mut self, now: Point) -> Result<(), TrainingError> {
        let _ = now;
        Ok(())
    }

    /// Number of batches of an epoch that begins or goes on.
    fn open_epoch(&mut self, epoch: u32) -> u64;

    /// Takes one step of the optimiser; `now` is before it.
    fn step(
        &mut self,
        batches: &mut Self::Batches<'_>,
        now: Point,
    ) -> Result<Stepped, TrainingError>;

    /// Judges an epoch whose batches are done, or that the time has ended. Whoever is stopped here comes
    /// back here: the epoch is not counted yet.
    fn close_epoch(&mut self, now: Point, watch: &mut Watch<'_>) -> Result<Closing, TrainingError>;

    /// Whether no step is half done, so that what is there can be kept.
    fn is_between_steps(&self) -> bool {
        true
    }

    /// The checkpoint's file of `now`.
    fn write(&self, now: Point) -> Result<Vec<u8>, TrainingError>;

    /// Goes on from a checkpoint; where that is.
    fn read(&mut self, state: Self::State) -> Result<Point, TrainingError>;
}

/// The time that an attempt takes.
pub(super) struct Watch<'a> {
    host: &'a dyn Host,
    /// The time at which it began to train, moved on by the time that does not count.
    begun: Instant,
}

impl Watch<'_> {
    /// Does `work` in time that does not count.
    pub(super) fn aside<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let begun = self.host.now();
        let done = work();
        self.begun += self.host.now().duration_since(begun);
        done
    }
}

/// A run in training.
pub(super) struct Cycle<'a> {
    host: &'a dyn Host,
    reporter: &'a Reporter<'a>,
    terms: Terms,
    point: Point,
    watch: Watch<'a>,
    /// The time at which the newest checkpoint was finished, and how long it took.
    saved: (Instant, Duration),
}

impl<'a> Cycle<'a> {
    /// A run at its start.
    pub(super) fn new(host: &'a dyn Host, reporter: &'a Reporter<'a>, terms: Terms) -> Self {
        let begun = host.now();
        let watch = Watch { host, begun };
        let saved = (begun, Duration::ZERO);
        Self { host, reporter, terms, point: Point::default(), watch, saved }
    }

    /// The point at which the run is.
    pub(super) fn point(&self) -> Point {
        self.point
    }

    /// The batch that is next.
    pub(super) fn place(&self) -> Place {
        Place { epoch: self.point.epoch, batch: self.point.batch }
    }

    /// Goes on from a checkpoint.
    pub(super) fn restore<T: Task>(
        &mut self,
        task: &mut T,
        state: T::State,
    ) -> Result<(), TrainingError> {
        self.point = task.read(state)?;
        let Point { epoch, batch, .. } = self.point;
        let line = format!("resumed from a checkpoint in epoch {} at batch {batch}", epoch + 1);
        Ok(self.host.log(&line)?)
    }

    /// Trains to the end. What is done of it is kept when the worker has to go.
    pub(super) fn run<T: Task>(
        &mut self,
        task: &mut T,
        batches: &mut T::Batches<'_>,
    ) -> Result<(), TrainingError> {
        self.watch.begun = self.host.now();
        let result = self.epochs(task, batches);
        if let Err(TrainingError::Stopped(Stop::HandedBack)) = &result
            && task.is_between_steps()
        {
            self.save(task)?;
        }
        result
    }

    fn epochs<T: Task>(
        &mut self,
        task: &mut T,
        batches: &mut T::Batches<'_>,
    ) -> Result<(), TrainingError> {
        task.begin(self.point)?;
        while self.point.ended.is_none() {
            self.epoch(task, batches)?;
            self.close_epoch(task)?;
            let took = self.saved.1.as_secs_f64();
            if took <= CHECKPOINT_SHARE * self.since_saved().as_secs_f64() {
                self.save(task)?;
            }
        }
        Ok(())
    }

    /// The batches of the epoch that are still to be done, as far as the time goes.
    fn epoch<T: Task>(
        &mut self,
        task: &mut T,
        batches: &mut T::Batches<'_>,
    ) -> Result<(), TrainingError> {
        let in_epoch = task.open_epoch(self.point.epoch);
        while self.point.batch < in_epoch {
            if self.point.step >= self.terms.least_steps && self.is_out_of_time() {
                self.point.ended = Some(Ended::TimeBudget);
                return Ok(());
            }
            let stepped = task.step(batches, self.point)?;
            self.point.step += 1;
            self.point.batch += stepped.batches;
            let at = At {
                done: self.point.step,
                total: self.terms.steps,
                epoch: Some(self.point.epoch + 1),
                repeat: self.terms.repeat,
                loss: Some(stepped.loss),
                images: stepped.images,
                allowance: self.allowance(),
            };
            self.reporter.at(self.terms.stage, at)?;
            if self.since_saved() >= self.terms.checkpoint_every {
                self.save(task)?;
            }
        }
        Ok(())
    }

    /// Counts the epoch, and decides whether there is another.
    fn close_epoch<T: Task>(&mut self, task: &mut T) -> Result<(), TrainingError> {
        let reason = match task.close_epoch(self.point, &mut self.watch)? {
            Closing::Uncounted => return Ok(()),
            Closing::Counted => None,
            Closing::Last(reason) => Some(reason),
        };
        self.point.epoch += 1;
        self.point.batch = 0;
        let is_last = self.point.epoch >= self.terms.epochs;
        let all = is_last.then_some(Ended::AllEpochs);
        self.point.ended = self.point.ended.or(reason).or(all);
        Ok(())
    }

    fn since_saved(&self) -> Duration {
        self.host.now().duration_since(self.saved.0)
    }

    fn seconds(&self) -> f64 {
        let attempt = self.host.now().duration_since(self.watch.begun);
        self.point.seconds + attempt.as_secs_f64()
    }

    fn is_out_of_time(&self) -> bool {
        self.terms.most_seconds.is_some_and(|most| self.seconds() >= most)
    }

    /// The rest of the time, left to this repeat and to those after it.
    fn allowance(&self) -> Option<Allowance> {
        let (most, seconds) = (self.terms.most_seconds?, self.seconds());
        let left_seconds = (most - seconds).max(0.0) + f64::from(self.terms.further) * most;
        Some(Allowance { used: (seconds / most).min(1.0), left_seconds })
    }

    fn save<T: Task>(&mut self, task: &T) -> Result<(), TrainingError> {
        let begun = self.host.now();
        let bytes = task.write(Point { seconds: self.seconds(), ..self.point })?;
        self.host.save_checkpoint(Bytes::from(bytes))?;
        let done = self.point.step as f64 / self.terms.steps.max(1) as f64;
        self.host.kept(self.terms.kept.share(done))?;
        let now = self.host.now();
        self.saved = (now, now.duration_since(begun));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
