//! Fine-tuning runs: looked up before anything is computed, published as a model.

use std::sync::Arc;

use super::Worker;
use super::host::{Control, StoreHost};
use super::prepare::{Frozen, PrepareError, composed};
use crate::domain::evaluation::Evaluation;
use crate::domain::forecast::{Calibration, Trial};
use crate::domain::name::Name;
use crate::domain::run::{Finetune, Method, Provenance, Status};
use crate::domain::{Backbone, Split};
use crate::estimate;
use crate::store::features::Extractor;
use crate::store::models::Publication;
use crate::store::queue::{Claimed, Ending};
use crate::store::{StoreError, backbones, events, models, queue};
use crate::training::{self, Example, Ground, Job, Outcome};

/// Attempts in a row that end without a word before memory is suspected; one alone may be anything,
/// and the run it leaves is resumed bit for bit.
const SILENT_ATTEMPTS: usize = 2;

/// The things that a recipe of fine-tuning names.
pub(super) struct Named {
    frozen: Frozen,
    backbone: Backbone,
    examples: Vec<Example>,
}

impl Worker {
    /// Prepares a fine-tuning run, does it, and publishes its model.
    pub(super) async fn finetune(
        &self,
        run: &Claimed,
        recipe: &Finetune,
        control: &Arc<Control>,
    ) -> Result<Option<Ending>, PrepareError> {
        let named = self.named(recipe).await?;
        let job = Arc::new(self.job(run, recipe, named, run.provenance.clone()).await?);
        let work = {
            let job = Arc::clone(&job);
            move |host: &StoreHost<'_>| training::run(&job, host)
        };
        let made = self.compute(run, Some(extractor(&job)), control, work).await;
        let publish = |outcome| self.publish_model(run, &job, outcome);
        Ok(self.conclude(run, control, made, publish).await)
    }

    /// Looks up what a recipe names.
    pub(super) async fn named(&self, recipe: &Finetune) -> Result<Named, PrepareError> {
        let frozen = self.frozen(recipe.dataset_version).await?;
        let backbone = backbones::one(&self.store.pool, recipe.backbone).await?;
        let backbone = backbone.ok_or(PrepareError::Gone("backbone"))?;
        let examples = self.labelled(&frozen.version).await?;
        Ok(Named { frozen, backbone, examples })
    }

    /// The job of a recipe, to be repeated as `provenance` says.
    pub(super) async fn job(
        &self,
        run: &Claimed,
        recipe: &Finetune,
        named: Named,
        mut provenance: Provenance,
    ) -> Result<Job, PrepareError> {
        let Named { frozen: Frozen { version, dataset }, backbone, examples } = named;
        let (blobs, scratch) = (&self.store.blobs, self.scratch.clone());
        self.spare_memory(run, &mut provenance).await?;
        let memory_bytes = estimate::memory::budget(self.config.limits.training_memory_bytes);
        let train = examples.iter().filter(|example| example.split == Split::Train).count() as u64;
        let drawn = recipe.shots.map(|shots| u64::from(shots) * version.labels.len() as u64);
        let learn = drawn.map_or(train, |drawn| drawn.min(train));
        let calibration = match provenance.micro_batch {
            // What was settled is not settled again.
            Some(_) => None,
            None => self.calibrate(recipe, &backbone, learn).await,
        };
        let weights = blobs.materialise(&backbone.weights_sha256, &scratch).await?;
        let onnx = blobs.materialise(&backbone.onnx_sha256, &scratch).await?;
        let ground = Ground {
            run: run.id,
            provenance,
            name: model_name(recipe, &dataset, &backbone.name),
            dataset,
            version,
            runtime: self.runtime.clone(),
            threads: self.config.compute.threads(),
            scratch,
            limits: self.config.limits.clone(),
            memory_bytes,
            calibration,
        };
        Ok(Job { ground, spec: recipe.clone(), examples, backbone, weights, onnx })
    }

    /// Halves the number of images that are computed at a time when the attempts before this one
    /// ended without a word, as they do when the system kills a worker for its memory. Gradients are
    /// added up to those of the same batch, their last digits apart.
    async fn spare_memory(
        &self,
        run: &Claimed,
        provenance: &mut Provenance,
    ) -> Result<(), StoreError> {
        let Some(settled) = provenance.micro_batch.filter(|images| *images > 1) else {
            return Ok(());
        };
        let statuses = events::statuses(&self.store.pool, run.id).await?;
        let in_a_row = statuses.iter().rev().take_while(|status| **status == Status::Running);
        // The last of them is this attempt.
        if in_a_row.count() <= SILENT_ATTEMPTS {
            return Ok(());
        }
        let halved = settled / 2;
        provenance.micro_batch = Some(halved);
        queue::settle(&self.store.pool, run, halved).await?;
        let message = format!(
            "the last {SILENT_ATTEMPTS} attempts ended without a word, maybe for want of memory: \
             {halved} images are computed at a time from now on, not {settled}. Sums are added up \
             in another order then: the weights differ in their last digits from those of a run \
             that was never interrupted"
        );
        queue::notice(&self.store.pool, run, &message).await?;
        Ok(())
    }

    /// The cost of a step of a recipe here; none where it could not be measured, and for a probe,
    /// which has no steps.
    async fn calibrate(
        &self,
        spec: &Finetune,
        backbone: &Backbone,
        images: u64,
    ) -> Option<Calibration> {
        if spec.method == Method::Probe {
            return None;
        }
        let network = (backbone.architecture, backbone.preprocessing.size);
        let trial = Trial::of(spec, network, images, self.config.compute.threads());
        let measured = self.estimator.measured(&trial).await;
        measured.inspect_err(|error| tracing::warn!(%error, "training goes on without")).ok()
    }

    /// Stores the files of a model, records it, and finishes its run.
    async fn publish_model(
        &self,
        run: &Claimed,
        job: &Job,
        outcome: Outcome,
    ) -> Result<(), StoreError> {
        let artifacts = self.keep(&outcome.files).await?;
        let publication = Publication {
            name: job.ground.name.clone(),
            backbone: job.backbone.id,
            labels: job.ground.version.labels.clone(),
            preprocessing: job.backbone.preprocessing.clone(),
            evaluation: Evaluation::Classification(outcome.evaluation),
            license: job.backbone.license.clone(),
            artifacts,
            predictions: outcome.predictions,
        };
        let model = models::publish(&self.store.pool, run, &publication).await?;
        self.settle(run, &publication.artifacts, outcome.files).await;
        tracing::info!(run = %run.id, %model, "run succeeded");
        Ok(())
    }
}

/// Whose features a job caches.
pub(super) fn extractor(job: &Job) -> Extractor {
    Extractor {
        backbone: job.backbone.weights_sha256,
        preprocessing: job.backbone.preprocessing.digest(),
    }
}

/// The name asked for, else one that says what the model was made from.
fn model_name(spec: &Finetune, dataset: &Name, backbone: &Name) -> Name {
    if let Some(name) = &spec.name {
        return name.clone();
    }
    composed(&format!("{dataset} {backbone} {}", spec.method.as_str()), dataset)
}
