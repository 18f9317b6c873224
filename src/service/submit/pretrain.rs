//! Pretraining as it is asked for: everything that would let a run fail later and can be known now.

use super::error::SubmitError;
use super::version::{enough_images, has_labels, living, pool};
use crate::domain::dataset::Version;
use crate::domain::pretrain::{Amounts, Gate, Network, Pretrain};
use crate::domain::run::Provenance;
use crate::domain::{Backbone, Split, VersionId};
use crate::service::violation::Violation;
use crate::store::{Store, backbones};

/// The things that a recipe names, all of them there.
pub(super) struct Asked {
    version: Version,
    /// None from random weights.
    backbone: Option<Backbone>,
    /// The network that learns, and the side of its input.
    pub(super) network: Network,
    /// The images that it handles.
    pub(super) amounts: Amounts,
}

/// Looks up what a recipe names and checks that it can be followed.
pub(super) async fn check(store: &Store, wanted: &Pretrain) -> Result<Asked, SubmitError> {
    let wrong = wanted.validate();
    if !wrong.is_empty() {
        return Err(wrong.into());
    }
    let version = living(store, wanted.dataset_version).await?;
    let backbone = match wanted.backbone {
        Some(id) => backbones::one(&store.pool, id).await?,
        None => None,
    };
    let gate = wanted.gate.as_ref();
    let judged = match gate {
        Some(gate) => living(store, gate.dataset_version).await?,
        None => None,
    };
    let mut unknown = Vec::new();
    let mut missing = |pointer: &str, what: String| {
        unknown.push(Violation::new(pointer, format!("there is no {what}")));
    };
    let version_named = |id: VersionId| format!("dataset version {id}");
    if version.is_none() {
        missing("/dataset_version", version_named(wanted.dataset_version));
    }
    if let (Some(id), None) = (wanted.backbone, &backbone) {
        missing("/backbone", format!("backbone {id}"));
    }
    if let (Some(gate), None) = (&wanted.gate, &judged) {
        missing("/gate/dataset_version", version_named(gate.dataset_version));
    }
    let Some(version) = version.filter(|_| unknown.is_empty()) else {
        return Err(SubmitError::Recipe(unknown));
    };
    let shown = fill_a_batch(&version, wanted)?;
    if let Some(judged) = &judged {
        has_labels(judged, "/gate/dataset_version")?;
        can_judge(judged)?;
        let pool = pool(judged, |split| split == Split::Train);
        let most = gate.and_then(|gate| gate.shots.as_ref()?.iter().max().copied());
        enough_images(&pool, most, "/gate/shots")?;
    }
    let network = wanted.network(backbone.as_ref());
    let network = network.map(|(architecture, preprocessing)| (architecture, preprocessing.size));
    let network =
        network.ok_or_else(|| SubmitError::wrong("/architecture", "there is no network"))?;
    let misfits = wanted.views.misfits(Some(network.0));
    if !misfits.is_empty() {
        return Err(misfits.into());
    }
    let judged = judged.as_ref().zip(gate).map_or(0, |(judged, gate)| judged_images(judged, gate));
    Ok(Asked { version, backbone, network, amounts: Amounts { shown, judged } })
}

/// A gate compares by test images of at least two classes.
fn can_judge(version: &Version) -> Result<(), SubmitError> {
    let classes = version.splits.get(&Split::Test).map_or(0, |counts| counts.classes.len());
    if classes >= 2 {
        return Ok(());
    }
    let detail = format!(
        "the test images of this version are of {classes} class(es); a backbone is judged by those of \
         two or more. Freeze a version whose test split has them"
    );
    Err(SubmitError::wrong("/gate/dataset_version", detail))
}

/// Images that a gate's probe learns from in any of its repeats, or is judged by.
fn judged_images(version: &Version, gate: &Gate) -> u64 {
    let train = pool(version, |split| split == Split::Train);
    let counts = gate.counts(train.values().copied().min().unwrap_or(0));
    let drawn: u64 = train
        .values()
        .map(|images| {
            let draws = u64::from(gate.repeats);
            let of = |shots: &Option<u32>| shots.map_or(*images, |shots| draws * u64::from(shots));
            counts.iter().map(of).sum::<u64>().min(*images)
        })
        .sum();
    let tested = version.splits.get(&Split::Test).map_or(0, |test| test.classes.values().sum());
    drawn + tested
}

/// A batch needs as many images as it has places; how many there are. Test images are not shown.
fn fill_a_batch(version: &Version, wanted: &Pretrain) -> Result<u64, SubmitError> {
    let shown = version.splits.iter().filter(|(split, _)| **split != Split::Test);
    let images: u64 = shown.map(|(_, counts)| counts.images).sum();
    let batch = wanted.learning.batch_size;
    if images >= u64::from(batch) {
        return Ok(images);
    }
    let detail = format!(
        "the version has {images} image(s) outside its test split, fewer than the {batch} of a batch; \
         lower the batch size or add images and freeze again"
    );
    Err(SubmitError::wrong("/learning/batch_size", detail))
}

impl Asked {
    /// The facts that it takes to repeat the run.
    pub(super) fn provenance(&self) -> Provenance {
        Provenance {
            dataset_digest: self.version.digest,
            backbone_sha256: self.backbone.as_ref().map(|backbone| backbone.weights_sha256),
            code_version: env!("CARGO_PKG_VERSION").to_owned(),
            threads: None,
            micro_batch: None,
        }
    }
}
