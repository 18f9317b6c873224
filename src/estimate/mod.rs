//! What a training step costs on this machine, measured by a child process and remembered.
//!
//! A process of its own: its peak memory is that of the step alone, and a step that does not fit
//! takes nothing with it.

pub mod memory;

use std::collections::HashMap;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::process::Command;
use tokio::sync::{Mutex, OnceCell};

use crate::domain::forecast::{Calibration, Trial};

/// The longest that a measurement may take.
const PATIENCE: Duration = Duration::from_mins(4);

/// Why nothing could be measured.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the cost of a training step could not be measured: {0}")]
pub struct CannotMeasure(String);

/// Measurements of this process, each made once.
#[derive(Debug, Clone, Default)]
pub struct Estimator {
    known: Arc<Mutex<HashMap<Trial, Arc<OnceCell<Calibration>>>>>,
    /// Two measurements at the same time would disturb each other.
    one: Arc<Mutex<()>>,
}

impl Estimator {
    /// The cost of a step, from an earlier measurement or from one made now.
    pub async fn calibration(&self, trial: &Trial) -> Result<Calibration, CannotMeasure> {
        let cell = {
            let mut known = self.known.lock().await;
            Arc::clone(known.entry(trial.clone()).or_default())
        };
        cell.get_or_try_init(|| self.measure(trial)).await.copied()
    }

    async fn measure(&self, trial: &Trial) -> Result<Calibration, CannotMeasure> {
        let _alone = self.one.lock().await;
        let trouble = |error: &dyn std::fmt::Display| CannotMeasure(error.to_string());
        let request = serde_json::to_string(trial).map_err(|error| trouble(&error))?;
        let program = std::env::current_exe().map_err(|error| trouble(&error))?;
        let child = Command::new(program)
            .args(["calibrate", &request])
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
