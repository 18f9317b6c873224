//! Queues runs and estimates them: the same checks, and what follows from them.

use super::error::SubmitError;
use super::forecast::Machine;
use super::{finetune, pretrain, replay};
use crate::domain::forecast::Forecast;
use crate::domain::run::{Run, Spec};
use crate::store::Store;
use crate::store::runs::{self, NewRun, Once};

/// Queues runs and estimates them.
#[derive(Debug, Clone)]
pub struct Submitter {
    store: Store,
    machine: Machine,
    max_queued: u64,
}

/// The forecast of a run, as far as it is known.
#[derive(Debug, Clone)]
pub struct Estimate {
    /// Time and memory; none while the cost of a step is being measured.
    pub forecast: Option<Forecast>,
    /// The advice on what to do better, for people to read.
    pub advice: Option<String>,
    /// Memory that it may use when no other run is at work.
    pub available_bytes: u64,
    /// Compute threads it is measured with.
    pub threads: usize,
}

impl Submitter {
    /// A submitter whose runs are for machines like this one, and of which as many wait as
    /// `max_queued` says.
    pub fn new(store: Store, machine: Machine, max_queued: u64) -> Self {
        Self { store, machine, max_queued }
    }

    /// Queues a run; asked for twice under one key, it is queued once.
    pub async fn queue(&self, spec: Spec, once: Option<Once>) -> Result<Run, SubmitError> {
        let spec = whole(spec)?;
        // Before the queue is looked at: a run that was queued is answered with however full it is now.
        if let Some(once) = &once
            && let Some(before) = runs::asked_before(&self.store.pool, once).await?
        {
            return Ok(before);
        }
        let (provenance, dataset_version, backbone) = match &spec {
            Spec::Finetune(wanted) => {
                let asked = finetune::check(&self.store, wanted).await?;
                self.room().await?;
                self.machine.fits(wanted, &asked).await?;
                (asked.provenance(), wanted.dataset_version, Some(wanted.backbone))
            }
            Spec::Pretrain(wanted) => {
                let asked = pretrain::check(&self.store, wanted).await?;
                self.room().await?;
                self.machine.pretraining_fits(wanted, &asked).await?;
                (asked.provenance(), wanted.dataset_version, wanted.backbone)
            }
            Spec::Replay(_) => return Err(SubmitError::IsReplay),
        };
        let once = once.as_ref();
        let run = NewRun { spec: &spec, provenance: &provenance, dataset_version, backbone, once };
        Ok(runs::insert(&self.store.pool, &run).await?)
    }

    /// Queues a replay of the first steps of a run that has succeeded.
    pub async fn replay(&self, run: Run, steps: u32) -> Result<Run, SubmitError> {
        let asked = replay::check(&self.store, run, steps).await?;
        self.room().await?;
        Ok(runs::insert(&self.store.pool, &asked.new_run()).await?)
    }

    /// Estimates a run without queueing it; one that cannot fit is refused.
    pub async fn estimate(&self, spec: Spec) -> Result<Estimate, SubmitError> {
        let mut advice = None;
        let measured = match whole(spec)? {
            Spec::Pretrain(wanted) => {
                let asked = pretrain::check(&self.store, &wanted).await?;
                self.machine.of_pretraining(&wanted, &asked).await
            }
            Spec::Finetune(wanted) => {
                let asked = finetune::check(&self.store, &wanted).await?;
                let amounts = asked.amounts(&wanted);
                advice = wanted.too_few_steps(amounts.training, amounts.validation > 0);
                self.machine.of_finetuning(&wanted, &asked).await
            }
            Spec::Replay(_) => return Err(SubmitError::IsReplay),
        };
        let forecast = measured?.transpose()?;
        let (available_bytes, threads) = (self.machine.available_bytes(), self.machine.threads);
        Ok(Estimate { forecast, advice, available_bytes, threads })
    }

    /// Fails when no further run may be queued.
    pub async fn room(&self) -> Result<(), SubmitError> {
        let (queued, max) = (runs::queued(&self.store.pool).await?, self.max_queued);
        if queued < max { Ok(()) } else { Err(SubmitError::QueueFull { queued, max }) }
    }
}

/// The recipe that is asked for with its defaults filled in.
fn whole(spec: Spec) -> Result<Spec, SubmitError> {
    match spec {
        Spec::Pretrain(_) => Ok(spec),
        Spec::Finetune(mut wanted) => {
            wanted.fill_in();
            Ok(Spec::Finetune(wanted))
        }
        Spec::Replay(_) => Err(SubmitError::IsReplay),
    }
}
