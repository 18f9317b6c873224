//! From a claimed run to a job: everything it names is looked up before anything is computed.

use std::collections::BTreeMap;

use super::Worker;
use crate::domain::dataset::Version;
use crate::domain::forecast::{Calibration, Trial};
use crate::domain::image::Image;
use crate::domain::line::MAX_LINE_CHARS;
use crate::domain::name::Name;
use crate::domain::run::{Finetune, Method, Provenance, Spec, Status};
use crate::domain::{Backbone, Split, VersionId};
use crate::estimate;
use crate::store::queue::Claimed;
use crate::store::versions::VersionImage;
use crate::store::{StoreError, backbones, datasets, events, queue, runs, versions};
use crate::training::{Example, Job, pretrain};

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

/// Attempts in a row that end without a word before memory is suspected; one alone may be anything,
/// and the run it leaves is resumed bit for bit.
const SILENT_ATTEMPTS: usize = 2;

/// A run with all that it names.
pub(super) enum Work {
    /// Fine-tuning, or a comparison of it with what it did.
    Finetune(Box<Job>),
    /// Pretraining.
    Pretrain(Box<pretrain::Job>),
}

/// A frozen version with its dataset's name.
pub(super) struct Frozen {
    pub(super) version: Version,
    pub(super) dataset: Name,
}

impl Worker {
    /// Looks up what a run names.
    pub(super) async fn prepare(&self, run: &Claimed) -> Result<Work, PrepareError> {
        match &run.spec {
            Spec::Finetune(recipe) => {
                self.fine_tuning(run, recipe).await.map(Box::new).map(Work::Finetune)
            }
            Spec::Replay(replay) => {
                self.fine_tuning(run, &replay.recipe).await.map(Box::new).map(Work::Finetune)
            }
            Spec::Pretrain(recipe) => {
                self.pretraining(run, recipe).await.map(Box::new).map(Work::Pretrain)
            }
        }
    }

    /// The version of this id.
    pub(super) async fn frozen(&self, id: VersionId) -> Result<Frozen, PrepareError> {
        let pool = &self.store.pool;
        let version = versions::one(pool, id).await?;
        let version = version.ok_or(PrepareError::Gone("dataset version"))?;
        let dataset = datasets::one(pool, version.dataset).await?;
        let dataset = dataset.ok_or(PrepareError::Gone("dataset"))?.name;
        Ok(Frozen { version, dataset })
    }

    /// The labelled images of a version.
    pub(super) async fn labelled(&self, version: &Version) -> Result<Vec<Example>, PrepareError> {
        let index: BTreeMap<&str, usize> =
            version.labels.iter().enumerate().map(|(at, label)| (label.as_str(), at)).collect();
        let mut examples = Vec::new();
        for entry in versions::images(&self.store.pool, version.id, None).await? {
            // Only pretraining learns from images without a label.
            let Some(label) = &entry.image.label else { continue };
            let Some(at) = index.get(label.as_str()) else {
                return Err(PrepareError::UnknownLabel(label.clone()));
            };
            examples.push(example(entry, *at));
        }
        Ok(examples)
    }

    async fn fine_tuning(&self, run: &Claimed, spec: &Finetune) -> Result<Job, PrepareError> {
        let spec = spec.clone();
        let (pool, blobs) = (&self.store.pool, &self.store.blobs);
        let Frozen { version, dataset } = self.frozen(spec.dataset_version).await?;
        let backbone = backbones::one(pool, spec.backbone).await?;
        let backbone = backbone.ok_or(PrepareError::Gone("backbone"))?;
        let examples = self.labelled(&version).await?;
        let scratch = self.scratch.clone();
        let mut provenance = run.provenance.clone();
        if let Spec::Replay(replay) = &run.spec {
            // A replay adds up in the order in which the run did.
            let replayed = runs::one(pool, replay.run).await?;
            let replayed = replayed.ok_or(PrepareError::Gone("run to be replayed"))?;
            provenance.micro_batch = replayed.provenance.micro_batch;
        }
        self.spare_memory(run, &mut provenance).await?;
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
            name: model_name(&spec, &dataset, &backbone.name),
            spec,
            provenance,
            dataset,
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
        let measured = self.estimator.measured(&trial).await;
        measured.inspect_err(|error| tracing::warn!(%error, "training goes on without")).ok()
    }
}

/// An image of a version whose class has this number.
pub(super) fn example(VersionImage { image, split }: VersionImage, label: usize) -> Example {
    let Image { id, blob, frame, patient_key, .. } = image;
    Example { image: id, blob, frame, label, patient: patient_key, split }
}

/// The name asked for, else one that says what the model was made from.
fn model_name(spec: &Finetune, dataset: &Name, backbone: &Name) -> Name {
    if let Some(name) = &spec.name {
        return name.clone();
    }
    composed(&format!("{dataset} {backbone} {}", spec.method.as_str()), dataset)
}

/// A name as far as it may be long, or the other one where it cannot be a name.
pub(super) fn composed(made: &str, otherwise: &Name) -> Name {
    let made: String = made.chars().take(MAX_LINE_CHARS).collect();
    Name::parse(&made).unwrap_or_else(|_| otherwise.clone())
}
