//! From a claimed run to a job: everything it names is looked up before anything is computed.

use std::collections::BTreeMap;

use super::Worker;
use crate::domain::forecast::{Calibration, Trial};
use crate::domain::name::{MAX_NAME_CHARS, Name};
use crate::domain::run::{Finetune, Method, Spec};
use crate::domain::{Backbone, Split};
use crate::estimate;
use crate::store::queue::Claimed;
use crate::store::{StoreError, backbones, datasets, runs, versions};
use crate::training::{Example, Job};

/// Why a run cannot even begin.
#[derive(Debug, thiserror::Error)]
pub(super) enum PrepareError {
    /// What it names is gone.
    #[error("the {0} of the run no longer exists")]
    Gone(&'static str),
    /// An image of the version carries a label that the version does not list.
    #[error("the dataset version is damaged: an image has the unlisted label {0:?}")]
    UnknownLabel(String),
    /// The store failed; another attempt may succeed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Worker {
    /// Looks up what a run names.
    pub(super) async fn prepare(&self, run: &Claimed) -> Result<Job, PrepareError> {
        let Some(spec) = run.spec.recipe().cloned() else {
            return Err(PrepareError::Gone("recipe"));
        };
        let (pool, blobs) = (&self.store.pool, &self.store.blobs);
        let version = versions::one(pool, spec.dataset_version).await?;
        let version = version.ok_or(PrepareError::Gone("dataset version"))?;
        let dataset = datasets::one(pool, version.dataset).await?;
        let dataset = dataset.ok_or(PrepareError::Gone("dataset"))?;
        let backbone = backbones::one(pool, spec.backbone).await?;
        let backbone = backbone.ok_or(PrepareError::Gone("backbone"))?;
        let index: BTreeMap<&str, usize> =
            version.labels.iter().enumerate().map(|(at, label)| (label.as_str(), at)).collect();
        let mut examples = Vec::new();
        for entry in versions::images(pool, version.id, None).await? {
            // Only pretraining learns from images without a label.
            let Some(label) = entry.image.label else { continue };
            let Some(at) = index.get(label.as_str()) else {
                return Err(PrepareError::UnknownLabel(label));
            };
            examples.push(Example {
                image: entry.image.id,
                blob: entry.image.blob,
                frame: entry.image.frame,
                label: *at,
                patient: entry.image.patient_key,
                split: entry.split,
            });
        }
        let scratch = self.scratch.clone();
        let mut provenance = run.provenance.clone();
        if let Spec::Replay(replay) = &run.spec {
            // A replay adds up in the order in which the run did.
            let replayed = runs::one(pool, replay.run).await?;
            let replayed = replayed.ok_or(PrepareError::Gone("run to be replayed"))?;
            provenance.micro_batch = replayed.provenance.micro_batch;
        }
        let setting = self.config.limits.training_memory_bytes;
        let memory_bytes = estimate::memory::budget(setting);
        let train = examples.iter().filter(|example| example.split == Split::Train).count() as u64;
        let drawn = spec.shots.map(|shots| u64::from(shots) * version.labels.len() as u64);
        let learn = drawn.map_or(train, |drawn| drawn.min(train));
        let calibration = match provenance.micro_batch {
            // What was settled is not settled again.
            Some(_) => None,
            None => self.calibrate(&spec, &backbone, learn).await,
        };
        Ok(Job {
            run: run.id,
            name: model_name(&spec, &dataset.name, &backbone.name),
            spec,
            provenance,
            dataset: dataset.name,
            examples,
            weights: blobs.materialise(&backbone.weights_sha256, &scratch).await?,
            onnx: blobs.materialise(&backbone.onnx_sha256, &scratch).await?,
            version,
            backbone,
            runtime: self.runtime.clone(),
            threads: self.config.compute.threads(),
            scratch,
            limits: self.config.limits.clone(),
            memory_bytes,
            calibration,
        })
    }

    /// What a step of a recipe costs here; none where it could not be measured, and for a probe,
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
        let measured = self.estimator.calibration(&trial).await;
        measured.inspect_err(|error| tracing::warn!(%error, "training goes on without")).ok()
    }
}

/// The name asked for, else one that says what the model was made from.
fn model_name(spec: &Finetune, dataset: &Name, backbone: &Name) -> Name {
    if let Some(name) = &spec.name {
        return name.clone();
    }
    let made = format!("{dataset} {backbone} {}", spec.method.as_str());
    let made: String = made.chars().take(MAX_NAME_CHARS).collect();
    Name::parse(&made).unwrap_or_else(|_| dataset.clone())
}
