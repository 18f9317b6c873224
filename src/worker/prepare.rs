//! From a claimed run to a job: everything it names is looked up before anything is computed.

use std::collections::BTreeMap;

use super::Worker;
use crate::domain::name::{MAX_NAME_CHARS, Name};
use crate::domain::run::{Finetune, Spec};
use crate::store::queue::Claimed;
use crate::store::{StoreError, backbones, datasets, versions};
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
        let Spec::Finetune(spec) = run.spec.clone();
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
            let label = entry.image.label.unwrap_or_default();
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
        Ok(Job {
            run: run.id,
            name: model_name(&spec, &dataset.name, &backbone.name),
            spec,
            provenance: run.provenance.clone(),
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
        })
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
