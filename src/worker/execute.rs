//! One leased run from claim to end: a heart that beats, a thread that trains, a result published.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::Worker;
use super::host::{Control, StoreHost};
use super::prepare::{PrepareError, Work};
use crate::domain::model::Artifact;
use crate::domain::run::{Replayed, Spec};
use crate::nn;
use crate::store::features::Extractor;
use crate::store::models::Publication;
use crate::store::queue::{Beat, Claimed, Ending};
use crate::store::{Content, StoreError, checkpoints, events, models, queue, settle};
use crate::training::replay::Recorded;
use crate::training::{self, Job, Outcome, Packed, Stop, TrainingError};

/// The longest between two beats, so that a cancelled run ends soon.
const BEAT: Duration = Duration::from_secs(1);

/// What an attempt at fine-tuning ends in.
enum Product {
    /// A model.
    Trained(Box<Outcome>),
    /// A comparison.
    Replayed(Replayed),
}

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

    /// Trains and publishes; how to end the run when nothing was published.
    async fn attempt(&self, run: &Claimed, control: &Arc<Control>) -> Option<Ending> {
        match self.prepare(run).await {
            Ok(Work::Finetune(job)) => {
                let job = Arc::new(*job);
                let product = self.fine_tune(run, &job, control).await;
                self.conclude(run, control, product, |made| self.finish(run, &job, made)).await
            }
            Ok(Work::Pretrain(job)) => {
                let job = Arc::new(*job);
                let backbone = self.pretrain(run, &job, control).await;
                let publish = |made| self.publish_backbone(run, &job, made);
                self.conclude(run, control, backbone, publish).await
            }
            Err(PrepareError::Store(error)) if !error.is_damage() => {
                Some(Ending::Stumbled(error.to_string()))
            }
            Err(error) => Some(Ending::Failed(error.to_string())),
        }
    }

    /// Finishes a run with what was made, by `finish`; how to end the run otherwise.
    async fn conclude<T, F: Future<Output = Result<(), StoreError>>>(
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

    /// What it took to resume is not needed any more; that it cannot be removed harms nobody.
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

    async fn fine_tune(
        &self,
        run: &Claimed,
        job: &Arc<Job>,
        control: &Arc<Control>,
    ) -> Result<Product, TrainingError> {
        let recorded =
            self.recorded(run).await.map_err(|error| TrainingError::Host(error.into()))?;
        let extractor = Some(Extractor {
            backbone: job.backbone.weights_sha256,
            preprocessing: job.backbone.preprocessing.digest(),
        });
        let (job, spec) = (Arc::clone(job), run.spec.clone());
        let work = move |host: &StoreHost<'_>| match (&spec, recorded) {
            (Spec::Replay(replay), Some(recorded)) => {
                training::replay(&job, host, &recorded, replay.steps).map(Product::Replayed)
            }
            _ => training::run(&job, host).map(|outcome| Product::Trained(Box::new(outcome))),
        };
        self.compute(run, extractor, control, work).await
    }

    /// The losses that a replay compares.
    async fn recorded(&self, run: &Claimed) -> Result<Option<Recorded>, StoreError> {
        let Spec::Replay(replay) = &run.spec else { return Ok(None) };
        let mut curves = events::curves(&self.store.pool, replay.run).await?;
        let points = curves.remove(training::replay::series(replay.recipe.method));
        Ok(Some(points.unwrap_or_default().into_iter().collect()))
    }

    async fn finish(&self, run: &Claimed, job: &Job, product: Product) -> Result<(), StoreError> {
        match product {
            Product::Trained(outcome) => self.publish(run, job, *outcome).await,
            Product::Replayed(found) => {
                queue::replayed(&self.store.pool, run, &found).await?;
                tracing::info!(run = %run.id, equal = found.equal, "replay finished");
                Ok(())
            }
        }
    }

    /// Stores the files that a run gives.
    pub(super) async fn keep(&self, files: &[Packed]) -> Result<Vec<Artifact>, StoreError> {
        let mut artifacts = Vec::with_capacity(files.len());
        for file in files {
            let blob = self.store.blobs.put_bytes(file.bytes.clone()).await?;
            artifacts.push(Artifact {
                name: file.name.to_owned(),
                media_type: file.media_type.to_owned(),
                size_bytes: blob.size_bytes,
                sha256: blob.sha256,
            });
        }
        Ok(artifacts)
    }

    /// Makes sure of the files once rows name them.
    pub(super) async fn settle(&self, run: &Claimed, artifacts: &[Artifact], files: Vec<Packed>) {
        let named = artifacts.iter().zip(files);
        let content = |file: Packed| Content::Bytes(file.bytes);
        let files: Vec<_> =
            named.map(|(artifact, file)| (artifact.sha256, content(file))).collect();
        // The run has succeeded by now, whatever happens here.
        if let Err(error) = settle(&self.store, &files).await {
            tracing::error!(run = %run.id, %error, "the published files were not made sure of");
        }
    }

    async fn publish(&self, run: &Claimed, job: &Job, outcome: Outcome) -> Result<(), StoreError> {
        let artifacts = self.keep(&outcome.files).await?;
        let publication = Publication {
            name: job.name.clone(),
            backbone: job.backbone.id,
            labels: job.version.labels.clone(),
            preprocessing: job.backbone.preprocessing.clone(),
            evaluation: outcome.evaluation,
            license: job.backbone.license.clone(),
            artifacts,
            predictions: outcome.predictions,
        };
        let model = models::publish(&self.store.pool, run, &publication).await?;
        self.settle(run, &publication.artifacts, outcome.files).await;
        tracing::info!(run = %run.id, %model, "run succeeded");
        Ok(())
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
