//! The forecast of a run on this machine, by the cost of steps that are measured here.
//!
//! A cost that was not measured yet is measured in the background: nobody waits for it here.

use super::error::SubmitError;
use super::{finetune, pretrain};
use crate::domain::forecast::{Forecast, Trial, forecast};
use crate::domain::pretrain::Pretrain;
use crate::domain::run::{Finetune, Method};
use crate::estimate::{CannotMeasure, Cost, Estimator, memory};

/// The forecast of a run or the reason why it cannot run; none while that is being measured, unless
/// it could not be.
pub(super) type Measured = Result<Option<Result<Forecast, SubmitError>>, CannotMeasure>;

/// The machine that runs are foretold for.
#[derive(Debug, Clone)]
pub struct Machine {
    /// The estimator of the cost of training steps here.
    pub estimator: Estimator,
    /// Compute threads of a worker.
    pub threads: usize,
    /// Memory that training may use, as it is set; 0 means most of the machine's.
    pub memory_bytes: u64,
}

impl Machine {
    /// Memory that a run may use when no other one is at work.
    pub(super) fn available_bytes(&self) -> u64 {
        memory::capacity(self.memory_bytes)
    }

    /// Refuses fine-tuning that cannot fit.
    pub(super) async fn fits(
        &self,
        wanted: &Finetune,
        asked: &finetune::Asked,
    ) -> Result<(), SubmitError> {
        if wanted.method == Method::Probe {
            return Ok(());
        }
        refuse(self.of_finetuning(wanted, asked).await)
    }

    /// Refuses pretraining that cannot fit.
    pub(super) async fn pretraining_fits(
        &self,
        wanted: &Pretrain,
        asked: &pretrain::Asked,
    ) -> Result<(), SubmitError> {
        refuse(self.of_pretraining(wanted, asked).await)
    }

    pub(super) async fn of_finetuning(
        &self,
        wanted: &Finetune,
        asked: &finetune::Asked,
    ) -> Measured {
        let trial = asked.trial(wanted, self.threads);
        let Cost::Measured(step) = self.estimator.ask(&trial).await? else { return Ok(None) };
        let available = self.available_bytes();
        let found = forecast(wanted, &trial, &step, asked.amounts(wanted), available);
        Ok(Some(found.map_err(SubmitError::from)))
    }

    pub(super) async fn of_pretraining(
        &self,
        wanted: &Pretrain,
        asked: &pretrain::Asked,
    ) -> Measured {
        let network = asked.network;
        let trial = Trial::of_pretraining(wanted, network, self.threads);
        let Cost::Measured(step) = self.estimator.ask(&trial).await? else { return Ok(None) };
        let available = self.available_bytes();
        let found = wanted.forecast(network, &step, asked.amounts, (available, self.threads));
        Ok(Some(found.map_err(SubmitError::from)))
    }
}

/// Lets through what is not known: its worker sees to it.
fn refuse(measured: Measured) -> Result<(), SubmitError> {
    match measured {
        Ok(Some(found)) => found.map(|_| ()),
        Ok(None) => Ok(()),
        Err(error) => {
            tracing::warn!(%error, "a run is queued without an estimate");
            Ok(())
        }
    }
}
