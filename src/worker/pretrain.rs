//! Pretraining runs: looked up before anything is computed, published as a backbone.

use std::sync::Arc;

use time::OffsetDateTime;

use super::Worker;
use super::host::{Control, StoreHost};
use super::prepare::{Frozen, PrepareError, composed, example};
use crate::domain::backbone::{BackboneStage, Origin};
use crate::domain::forecast::{Calibration, Trial};
use crate::domain::model::Artifact;
use crate::domain::name::Name;
use crate::domain::pretrain::Pretrain;
use crate::domain::{Architecture, Backbone, BackboneId, Preprocessing, Target};
use crate::estimate;
use crate::service::import;
use crate::store::queue::{Claimed, Ending};
use crate::store::{StoreError, backbones, versions};
use crate::training::Ground;
use crate::training::pretrain::{Job, Judge, Pretrained, Start, pretrain};

impl Worker {
    /// Prepares a pretraining run, does it, and publishes its backbone.
    pub(super) async fn pretrain(
        &self,
        run: &Claimed,
        recipe: &Pretrain,
        control: &Arc<Control>,
    ) -> Result<Option<Ending>, PrepareError> {
        let job = Arc::new(self.pretraining(run, recipe).await?);
        let work = {
            let job = Arc::clone(&job);
            move |host: &StoreHost<'_>| pretrain(&job, host)
        };
        // Its features are those of weights in motion: none are cached.
        let made = self.compute(run, None, control, work).await;
        let publish = |made| self.publish_backbone(run, &job, made);
        Ok(self.conclude(run, control, made, publish).await)
    }

    /// Looks up what a pretraining run names.
    async fn pretraining(&self, run: &Claimed, recipe: &Pretrain) -> Result<Job, PrepareError> {
        let Frozen { version, dataset } = self.frozen(recipe.dataset_version).await?;
        let entries = versions::images(&self.store.pool, version.id, None).await?;
        // Nothing is asked of them: the target is never looked at.
        let picture = |entry| example(entry, Target::Class(0));
        let pictures = entries.into_iter().map(picture).collect();
        let gate = match &recipe.gate {
            Some(gate) => {
                let Frozen { version, dataset } = self.frozen(gate.dataset_version).await?;
                Some(Judge { examples: self.labelled(&version).await?, version, dataset })
            }
            None => None,
        };
        let scratch = self.scratch.clone();
        let (start, architecture, preprocessing) = self.start(recipe).await?;
        let calibration = self.cost(recipe, (architecture, preprocessing.size)).await;
        let limits = self.config.limits.clone();
        let ground = Ground {
            run: run.id,
            provenance: run.provenance.clone(),
            name: backbone_name(recipe, &dataset, &start),
            dataset,
            version,
            runtime: self.runtime.clone(),
            threads: self.config.compute.threads(),
            scratch,
            memory_bytes: estimate::memory::budget(limits.training_memory_bytes),
            limits,
            calibration,
        };
        let spec = recipe.clone();
        Ok(Job { ground, spec, pictures, start, preprocessing, architecture, gate })
    }

    /// The weights before the first step, their network, and how pictures enter it.
    async fn start(
        &self,
        recipe: &Pretrain,
    ) -> Result<(Start, Architecture, Preprocessing), PrepareError> {
        let parent = match recipe.backbone {
            Some(id) => {
                let parent = backbones::one(&self.store.pool, id).await?;
                Some(parent.ok_or(PrepareError::Gone("backbone"))?)
            }
            None => None,
        };
        let network = recipe.network(parent.as_ref());
        let (architecture, preprocessing) = network.ok_or(PrepareError::Gone("architecture"))?;
        let Some(parent) = parent else {
            return Ok((Start::Random, architecture, preprocessing));
        };
        let weights = self.store.blobs.materialise(&parent.weights_sha256, &self.scratch).await?;
        let parent = Box::new(parent);
        Ok((Start::Backbone { parent, weights }, architecture, preprocessing))
    }

    /// The cost of a step of the network here; none where it could not be measured.
    async fn cost(&self, recipe: &Pretrain, network: (Architecture, u32)) -> Option<Calibration> {
        let trial = Trial::of_pretraining(recipe, network, self.config.compute.threads());
        let measured = self.estimator.measured(&trial).await;
        measured.inspect_err(|error| tracing::warn!(%error, "training goes on without")).ok()
    }

    /// Stores the files of a pretrained backbone, records it, and finishes its run.
    async fn publish_backbone(
        &self,
        run: &Claimed,
        job: &Job,
        made: Pretrained,
    ) -> Result<(), StoreError> {
        let parameters = import::trained(&made.tensors);
        let artifacts = self.keep(&made.files).await?;
        let named = |name: &str| {
            let found = artifacts.iter().find(|artifact| artifact.name == name);
            found.ok_or_else(|| std::io::Error::other(format!("pretraining made no {name}")))
        };
        let Artifact { sha256: weights_sha256, size_bytes: weights_size_bytes, .. } =
            *named("model.safetensors")?;
        let onnx_sha256 = named("model.onnx")?.sha256;
        let parent = match &job.start {
            Start::Backbone { parent, .. } => Some(parent.as_ref()),
            Start::Random => None,
        };
        let stage = if made.published { BackboneStage::Approved } else { BackboneStage::Candidate };
        let backbone = Backbone {
            id: BackboneId::new(),
            name: job.ground.name.clone(),
            architecture: job.architecture,
            preprocessing: job.preprocessing.clone(),
            embedding_size: job.architecture.embedding_size() as u32,
            parameters,
            weights_sha256,
            weights_size_bytes,
            onnx_sha256,
            source_sha256: weights_sha256,
            source_url: match parent {
                Some(parent) => parent.source_url.clone(),
                None => format!("run {} of this server", run.id),
            },
            license: job.license().to_owned(),
            notices: made.notices,
            parity: made.parity,
            origin: Origin {
                stage,
                parent: parent.map(|parent| parent.id),
                run: Some(run.id),
                comparison: made.comparison,
                artifacts: artifacts.clone(),
            },
            created_at: OffsetDateTime::UNIX_EPOCH,
        };
        let published = backbones::publish(&self.store.pool, run, &backbone).await?;
        self.settle(run, &artifacts, made.files).await;
        tracing::info!(run = %run.id, backbone = %published.id, stage = stage.as_str(), "run succeeded");
        Ok(())
    }
}

/// The name asked for, else one that says what the backbone was made from.
fn backbone_name(recipe: &Pretrain, dataset: &Name, start: &Start) -> Name {
    if let Some(name) = &recipe.name {
        return name.clone();
    }
    let objective = recipe.objective.as_str();
    let from = match (start, recipe.architecture) {
        (Start::Backbone { parent, .. }, _) => parent.name.to_string(),
        (Start::Random, Some(architecture)) => architecture.to_string(),
        (Start::Random, None) => String::new(),
    };
    composed(&format!("{from} {dataset} {objective}"), dataset)
}
