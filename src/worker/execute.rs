//! One leased run from claim to end: a heart that beats, a thread that trains, a result published.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::Worker;
use super::host::{Control, StoreHost};
use crate::domain::run::Spec;
use crate::nn;
use crate::store::features::Extractor;
use crate::store::queue::{Beat, Claimed, Ending};
use crate::store::{StoreError, checkpoints, queue};
use crate::training::{Stop, TrainingError};

/// The longest between two beats, so that a cancelled run ends soon.
const BEAT: Duration = Duration::from_secs(1);

impl Worker {
    /// Executes a run and ends it, whatever happens.
    pub(super) async fn execute(&self, run: Claimed) {
        let control = Arc::new(Control::default());
        let ended = CancellationToken::new();
        let heart = tokio::spawn({
            let (worker, run) = (self.clone(), run.clone());
            let (control, ended) = (Arc::clone(&control), ended.clone());
            async move { worker.beat(&run, &control, &ended).await }
        });
        let result = self.attempt(&run, &control).await;
        ended.cancel();
        // A heart that panicked has lost the lease, which ending the run will find out.
        let _ = heart.await;
        if let Some(ending) = result {
            self.end(&run, &ending).await;
        }
    }

    /// Does what the kind of the run asks for; how to end the run when nothing was published.
    async fn attempt(&self, run: &Claimed, control: &Arc<Control>) -> Option<Ending> {
        let ended = match &run.spec {
            Spec::Finetune(recipe) => self.finetune(run, recipe, control).await,
            Spec::Pretrain(recipe) => self.pretrain(run, recipe, control).await,
            Spec::Replay(replay) => self.replay(run, replay, control).await,
        };
        ended.unwrap_or_else(|error| Some(error.ending()))
    }

    /// Finishes a run with what was made, by `finish`; how to end the run otherwise.
    pub(super) async fn conclude<T, F: Future<Output = Result<(), StoreError>>>(
        &self,
        run: &Claimed,
        control: &Control,
        made: Result<T, TrainingError>,
        finish: impl FnOnce(T) -> F,
    ) -> Option<Ending> {
        match made {
            // A cancel that came with the last step must not publish anything any more.
            Ok(_) if self.is_cancelled(run, control).await => Some(Ending::Cancelled),
            Ok(made) => match finish(made).await {
                Ok(()) => {
                    self.forget_checkpoint(run).await;
                    None
                }
                Err(StoreError::LeaseLost) => lost(run),
                // It came after the last look: nothing was published.
                Err(StoreError::CancelRequested) => Some(Ending::Cancelled),
                Err(error) => Some(Ending::Stumbled(error.to_string())),
            },
            Err(TrainingError::Stopped(Stop::Cancelled)) => Some(Ending::Cancelled),
            Err(TrainingError::Stopped(Stop::HandedBack)) => Some(Ending::HandedBack),
            Err(TrainingError::Stopped(Stop::Lost)) => lost(run),
            Err(TrainingError::Stopped(Stop::Enough)) => {
                Some(Ending::Failed("the run stopped early as if it were replayed".to_owned()))
            }
            // Until somebody restores the file, every attempt meets it.
            Err(error) if is_damage(&error) => Some(Ending::Failed(error.to_string())),
            Err(error) if error.is_transient() => Some(Ending::Stumbled(error.to_string())),
            Err(error) => Some(Ending::Failed(error.to_string())),
        }
    }

    async fn is_cancelled(&self, run: &Claimed, control: &Control) -> bool {
        let beat = queue::beat(&self.store.pool, run, self.lease()).await;
        control.asked() == Some(Stop::Cancelled) || matches!(beat, Ok(Beat::Cancel))
    }

    /// Forgets what it took to resume, which is not needed any more; that it cannot be removed harms
    /// nobody.
    async fn forget_checkpoint(&self, run: &Claimed) {
        if let Err(error) = checkpoints::delete(&self.store, run.id).await {
            tracing::warn!(run = %run.id, %error, "the checkpoint was not removed");
        }
    }

    /// Runs `work` on compute threads of its own, the store being its world.
    pub(super) async fn compute<T: Send + 'static>(
        &self,
        run: &Claimed,
        extractor: Option<Extractor>,
        control: &Arc<Control>,
        work: impl FnOnce(&StoreHost<'_>) -> Result<T, TrainingError> + Send + 'static,
    ) -> Result<T, TrainingError> {
        let (store, run, control) = (self.store.clone(), run.clone(), Arc::clone(control));
        let (threads, runtime) = (self.config.compute.threads(), Handle::current());
        let compute = move || {
            let host =
                StoreHost { store: &store, run: &run, extractor, control: &control, runtime };
            let done = nn::with_threads(threads, || work(&host));
            done.unwrap_or_else(|error| Err(std::io::Error::other(error).into()))
        };
        match tokio::task::spawn_blocking(compute).await {
            Ok(result) => result,
            // A panic costs an attempt, not the worker.
            Err(error) => Err(std::io::Error::other(format!("training broke: {error}")).into()),
        }
    }

    /// Renews the lease until the attempt has ended, and passes on what it learns.
    async fn beat(&self, run: &Claimed, control: &Control, ended: &CancellationToken) {
        let mut renewed = Instant::now();
        loop {
            tokio::select! {
                () = ended.cancelled() => return,
                () = self.ending.cancelled() => control.stop(Stop::HandedBack),
                () = tokio::time::sleep(BEAT.min(self.lease() / 3)) => {}
            }
            match queue::beat(&self.store.pool, run, self.lease()).await {
                Ok(Beat::Continue) => renewed = Instant::now(),
                Ok(Beat::Cancel) => control.stop(Stop::Cancelled),
                Ok(Beat::Lost) => control.stop(Stop::Lost),
                // Another worker may hold the run by now; going on would be wasted.
                Err(_) if renewed.elapsed() > self.lease() => control.stop(Stop::Lost),
                Err(error) => tracing::warn!(run = %run.id, %error, "a heartbeat failed"),
            }
            if self.ending.is_cancelled() {
                // The select above would spin on it.
                tokio::select! {
                    () = ended.cancelled() => return,
                    () = tokio::time::sleep(BEAT.min(self.lease() / 3)) => {}
                }
            }
        }
    }

    /// Ends a run that published nothing, trying for as long as the lease lasts.
    async fn end(&self, run: &Claimed, ending: &Ending) {
        let begun = Instant::now();
        loop {
            match queue::end(&self.store.pool, run, ending).await {
                Ok(()) => return tracing::info!(run = %run.id, ?ending, "run ended"),
                Err(StoreError::Database(_)) if begun.elapsed() < self.lease() => {
                    tokio::time::sleep(BEAT).await;
                }
                Err(error) => {
                    return tracing::warn!(run = %run.id, %error, ?ending, "run not ended");
                }
            }
        }
    }
}

fn is_damage(error: &TrainingError) -> bool {
    let TrainingError::Host(error) = error else { return false };
    error.downcast_ref::<StoreError>().is_some_and(StoreError::is_damage)
}

fn lost(run: &Claimed) -> Option<Ending> {
    tracing::warn!(run = %run.id, attempt = run.attempt, "the run is another worker's by now");
    None
}
