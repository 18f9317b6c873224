//! The cost of a training step on this machine: measured once by a child process, and kept in
//! Postgres for the server and its workers.
//!
//! A process of its own: its peak memory is that of the step alone, and a step that does not fit
//! takes nothing with it. A measurement takes seconds to minutes; who asks for a run is told at once
//! that it is going on.

pub mod machine;
pub mod memory;

use std::collections::HashMap;
use std::fs::File;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use sqlx::PgPool;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use crate::domain::forecast::{Calibration, Trial};
use crate::store::calibrations;

/// The longest that a measurement may take.
const PATIENCE: Duration = Duration::from_mins(4);
/// The longest that somebody who asks is kept waiting: small networks are measured within it.
const PROMPT: Duration = Duration::from_secs(2);
/// The time between two looks at what is waited for.
const LOOK: Duration = Duration::from_millis(50);
/// The time for which a measurement that failed is not tried again.
const FAILED: Duration = Duration::from_mins(5);
/// Measurements that may wait for one another; what is asked beyond that is measured when it is asked
/// for again.
const WAITING: usize = 8;

/// Names the process that started this one, which then does not outlive it.
pub const PARENT: &str = "LVMED_SUPERVISOR";

/// The reason why nothing could be measured.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the cost of a training step could not be measured: {0}")]
pub struct CannotMeasure(String);

/// The knowledge of the cost of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cost {
    /// It was measured.
    Measured(Calibration),
    /// It is being measured, or waits for another measurement to end.
    Measuring,
}

/// Measurements of this machine, each made once.
#[derive(Debug, Clone)]
pub struct Estimator {
    pool: PgPool,
    machine: Arc<str>,
    /// The program whose children measure.
    program: PathBuf,
    /// Locked by whoever measures: two measurements at the same time would disturb each other.
    lock: PathBuf,
    /// Cancelled when the process ends, and with it the measurement.
    ending: CancellationToken,
    /// The measurements under way for somebody who did not wait, and those that failed.
    asked: Arc<Mutex<HashMap<Trial, State>>>,
}

/// The state of a measurement that was asked for.
#[derive(Debug, Clone)]
enum State {
    Measuring,
    Failed(CannotMeasure, Instant),
}

impl Estimator {
    /// An estimator of this machine. `program` is this one, whose children measure; `lock` is the same
    /// file for all processes of the data folder.
    pub fn new(pool: PgPool, program: PathBuf, lock: PathBuf, ending: CancellationToken) -> Self {
        let machine = machine::name().into();
        Self { pool, machine, program, lock, ending, asked: Arc::default() }
    }

    /// The cost of a step if it is known within moments; else it is measured in the background.
    pub async fn ask(&self, trial: &Trial) -> Result<Cost, CannotMeasure> {
        if let Some(known) = self.known(trial).await? {
            return Ok(Cost::Measured(known));
        }
        if let Some(failed) = self.begin(trial) {
            return Err(failed);
        }
        let asked = Instant::now();
        while asked.elapsed() < PROMPT {
            tokio::time::sleep(LOOK).await;
            match self.state(trial) {
                Some(State::Measuring) => {}
                Some(State::Failed(failed, _)) => return Err(failed),
                None => break,
            }
        }
        Ok(self.known(trial).await?.map_or(Cost::Measuring, Cost::Measured))
    }

    /// The cost of a step, from an earlier measurement or from one made now, however long that takes.
    pub async fn measured(&self, trial: &Trial) -> Result<Calibration, CannotMeasure> {
        if let Some(known) = self.known(trial).await? {
            return Ok(known);
        }
        let _alone = self.alone().await?;
        // Somebody else may have measured it in the meantime.
        if let Some(known) = self.known(trial).await? {
            return Ok(known);
        }
        let found = tokio::select! {
            found = self.measure(trial) => found?,
            () = self.ending.cancelled() => return Err(trouble(&"the process is ending")),
        };
        if let Err(error) = calibrations::put(&self.pool, &self.machine, trial, &found).await {
            tracing::warn!(%error, "a measurement was not kept");
        }
        Ok(found)
    }

    async fn known(&self, trial: &Trial) -> Result<Option<Calibration>, CannotMeasure> {
        let found = calibrations::get(&self.pool, &self.machine, trial).await;
        found.map_err(|error| trouble(&error))
    }

    /// Sees to it that the trial is measured in the background; why not, where that failed just now.
    fn begin(&self, trial: &Trial) -> Option<CannotMeasure> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        match asked.get(trial) {
            Some(State::Measuring) => return None,
            Some(State::Failed(failed, at)) if at.elapsed() < FAILED => {
                return Some(failed.clone());
            }
            Some(State::Failed(..)) | None => {}
        }
        asked.retain(|_, state| matches!(state, State::Measuring));
        if asked.len() < WAITING {
            asked.insert(trial.clone(), State::Measuring);
            let (own, trial) = (self.clone(), trial.clone());
            tokio::spawn(async move {
                let found = own.measured(&trial).await;
                let mut asked = own.asked.lock().unwrap_or_else(PoisonError::into_inner);
                match found {
                    Ok(_) => asked.remove(&trial),
                    Err(error) => {
                        tracing::warn!(%error, "no estimate can be given");
                        asked.insert(trial, State::Failed(error, Instant::now()))
                    }
                };
            });
        }
        None
    }

    fn state(&self, trial: &Trial) -> Option<State> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).get(trial).cloned()
    }

    /// Waits until nobody else measures on this machine.
    async fn alone(&self) -> Result<File, CannotMeasure> {
        let file = File::create(&self.lock).map_err(|error| trouble(&error))?;
        while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = self.ending.cancelled() => return Err(trouble(&"the process is ending")),
            }
        }
        Ok(file)
    }

    async fn measure(&self, trial: &Trial) -> Result<Calibration, CannotMeasure> {
        let request = serde_json::to_string(trial).map_err(|error| trouble(&error))?;
        let child = Command::new(&self.program)
            .args(["calibrate", &request])
            .env(PARENT, std::process::id().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| trouble(&error))?;
        let ended = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
        let output = ended
            .map_err(|_| CannotMeasure(format!("no end after {} s", PATIENCE.as_secs())))?
            .map_err(|error| trouble(&error))?;
        if !output.status.success() {
            let told = String::from_utf8_lossy(&output.stderr);
            let last = told.lines().last().unwrap_or_default();
            return Err(CannotMeasure(format!("{}: {last}", output.status)));
        }
        serde_json::from_slice(&output.stdout).map_err(|error| trouble(&error))
    }
}

fn trouble(error: &dyn std::fmt::Display) -> CannotMeasure {
    CannotMeasure(error.to_string())
}
