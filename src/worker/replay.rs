//! Replays: the job of a finished run, done again as far as some steps and compared with what it did.

use std::sync::Arc;

use super::Worker;
use super::finetune::extractor;
use super::host::{Control, StoreHost};
use super::prepare::PrepareError;
use crate::domain::run::{Replay, Replayed};
use crate::store::queue::{Claimed, Ending};
use crate::store::{StoreError, events, queue, runs};
use crate::training;
use crate::training::replay::Recorded;

impl Worker {
    /// Prepares a replay, does it, and records what it found.
    pub(super) async fn replay(
        &self,
        run: &Claimed,
        replay: &Replay,
        control: &Arc<Control>,
    ) -> Result<Option<Ending>, PrepareError> {
        let named = self.named(&replay.recipe).await?;
        // A replay adds up in the order in which the run did.
        let replayed = runs::one(&self.store.pool, replay.run).await?;
        let replayed = replayed.ok_or(PrepareError::Gone("run to be replayed"))?;
        let mut provenance = run.provenance.clone();
        provenance.micro_batch = replayed.provenance.micro_batch;
        let job = self.job(run, &replay.recipe, named, provenance).await?;
        let (recorded, steps) = (self.recorded(replay).await?, replay.steps);
        let extractor = extractor(&job);
        let work = move |host: &StoreHost<'_>| training::replay(&job, host, &recorded, steps);
        let found = self.compute(run, Some(extractor), control, work).await;
        Ok(self.conclude(run, control, found, |found| self.record(run, found)).await)
    }

    /// The losses that a replay compares.
    async fn recorded(&self, replay: &Replay) -> Result<Recorded, StoreError> {
        let mut curves = events::curves(&self.store.pool, replay.run).await?;
        let points = curves.remove(training::replay::series(replay.recipe.method));
        Ok(points.unwrap_or_default().into_iter().collect())
    }

    /// Records what a replay found, and finishes its run.
    async fn record(&self, run: &Claimed, found: Replayed) -> Result<(), StoreError> {
        queue::replayed(&self.store.pool, run, &found).await?;
        tracing::info!(run = %run.id, equal = found.equal, "replay finished");
        Ok(())
    }
}
