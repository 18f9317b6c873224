//! Fine-tuning as it is asked for: everything that would let a run fail later and can be known now.

use std::collections::BTreeMap;

use super::error::SubmitError;
use super::version::{enough_images, has_labels, living, pool};
use crate::domain::dataset::Version;
use crate::domain::forecast::{Amounts, Trial};
use crate::domain::run::{Finetune, Provenance};
use crate::domain::{Backbone, Split};
use crate::service::violation::Violation;
use crate::store::{Store, backbones};

/// The things that a recipe names, all of them there.
pub(super) struct Asked {
    pub(super) version: Version,
    pub(super) backbone: Backbone,
}

/// Looks up what a recipe names and checks that it can be followed.
pub(super) async fn check(store: &Store, wanted: &Finetune) -> Result<Asked, SubmitError> {
    let wrong = wanted.validate();
    if !wrong.is_empty() {
        return Err(wrong.into());
    }
    let version = living(store, wanted.dataset_version).await?;
    let backbone = backbones::one(&store.pool, wanted.backbone).await?;
    let unknown = [
        (
            version.is_none(),
            "/dataset_version",
            format!("dataset version {}", wanted.dataset_version),
        ),
        (backbone.is_none(), "/backbone", format!("backbone {}", wanted.backbone)),
    ];
    let (Some(version), Some(backbone)) = (version, backbone) else {
        let unknown = unknown.into_iter().filter(|(is_unknown, ..)| *is_unknown);
        let told = |(_, at, name)| Violation::new(at, format!("there is no {name}"));
        return Err(SubmitError::Recipe(unknown.map(told).collect()));
    };
    let misfits = wanted.training.misfits(wanted.method, backbone.architecture);
    if !misfits.is_empty() {
        return Err(misfits.into());
    }
    has_labels(&version, "/dataset_version")?;
    let pool = pool(&version, |split| wanted.learns_from(split));
    enough_images(&pool, wanted.shots, "/shots")?;
    repeats_differ(&pool, wanted)?;
    Ok(Asked { version, backbone })
}

/// Repeats of a probe differ by the images that they draw: where the shots leave no choice, they are all
/// the same, and their agreement would say nothing.
fn repeats_differ(pool: &BTreeMap<&str, u64>, wanted: &Finetune) -> Result<(), SubmitError> {
    let Some(shots) = wanted.shots else { return Ok(()) };
    let is_all = pool.values().all(|found| *found <= u64::from(shots));
    // A recipe without a head is one of before, which is asked for again to be replayed.
    if !wanted.learns_from_validation() || wanted.repeats < 2 || !is_all {
        return Ok(());
    }
    let detail = format!(
        "{shots} shots are all images of every class, so that every repeat would be the same; lower \
         `shots` or ask for one repeat"
    );
    Err(SubmitError::wrong("/repeats", detail))
}

impl Asked {
    /// The facts that it takes to repeat the run.
    pub(super) fn provenance(&self) -> Provenance {
        Provenance {
            dataset_digest: self.version.digest,
            backbone_sha256: Some(self.backbone.weights_sha256),
            code_version: env!("CARGO_PKG_VERSION").to_owned(),
            threads: None,
            micro_batch: None,
        }
    }

    /// The numbers of images that a recipe handles.
    pub(super) fn amounts(&self, wanted: &Finetune) -> Amounts {
        // Images without a label are passed over.
        let images = |split: Split| {
            self.version.splits.get(&split).map_or(0, |counts| counts.classes.values().sum())
        };
        let all: u64 = pool(&self.version, |split| wanted.learns_from(split)).values().sum();
        let classes = self.version.labels.len() as u64;
        let training = wanted.shots.map_or(all, |shots| all.min(u64::from(shots) * classes));
        // What a probe learns from as well is in the pool already.
        let validation =
            if wanted.learns_from_validation() { 0 } else { images(Split::Validation) };
        Amounts { training, validation, test: images(Split::Test) }
    }

    /// The trial to measure for a recipe.
    pub(super) fn trial(&self, wanted: &Finetune, threads: usize) -> Trial {
        let network = (self.backbone.architecture, self.backbone.preprocessing.size);
        Trial::of(wanted, network, self.amounts(wanted).training, threads)
    }
}
