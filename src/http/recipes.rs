//! Recipes as they are asked for: everything that would let a run fail later and can be known now.

use super::App;
use super::problem::{Problem, Violation};
use super::snapshot::training_images;
use crate::domain::dataset::Version;
use crate::domain::forecast::{Amounts, Trial};
use crate::domain::run::{Finetune, Provenance, Spec};
use crate::domain::{Backbone, Split};
use crate::store::{backbones, datasets, versions};

/// What a recipe names, all of it there.
pub(super) struct Asked {
    pub(super) version: Version,
    pub(super) backbone: Backbone,
}

/// The recipe that is asked for, whole.
pub(super) fn finetune(spec: Spec) -> Result<Finetune, Problem> {
    match spec {
        Spec::Finetune(mut wanted) => {
            wanted.fill_in();
            Ok(wanted)
        }
        Spec::Replay(_) => {
            let detail = "a run is replayed by POST /api/v1/runs/{id}/replay";
            Err(Problem::wrong("/kind", detail))
        }
    }
}

/// Looks up what a recipe names and checks that it can be followed.
pub(super) async fn check(app: &App, wanted: &Finetune) -> Result<Asked, Problem> {
    let wrong = wanted.validate();
    if !wrong.is_empty() {
        return Err(wrong.into());
    }
    let mut version = versions::one(&app.store.pool, wanted.dataset_version).await?;
    if let Some(found) = &version
        && datasets::one(&app.store.pool, found.dataset).await?.is_none()
    {
        // What was learnt from a deleted dataset stays on record; nothing more is learnt from it.
        version = None;
    }
    let backbone = backbones::one(&app.store.pool, wanted.backbone).await?;
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
        return Err(Problem::invalid(unknown.map(told).collect()));
    };
    let misfits = wanted.training.misfits(wanted.method, backbone.architecture);
    if !misfits.is_empty() {
        return Err(misfits.into());
    }
    enough_images(&version, wanted.shots)?;
    Ok(Asked { version, backbone })
}

/// Every class needs as many training images as shots are asked for.
fn enough_images(version: &Version, shots: Option<u32>) -> Result<(), Problem> {
    let Some(shots) = shots else { return Ok(()) };
    let short: Vec<Violation> = training_images(version)
        .into_iter()
        .filter(|(_, found)| *found < u64::from(shots))
        .map(|(label, found)| {
            let detail = format!(
                "class {label:?} has {found} training images, fewer than the {shots} shots asked \
                 for; lower `shots` to {found} or add images of that class and freeze again"
            );
            Violation::new("/shots", detail)
        })
        .collect();
    if short.is_empty() { Ok(()) } else { Err(Problem::invalid(short)) }
}

impl Asked {
    /// What it takes to repeat the run.
    pub(super) fn provenance(&self) -> Provenance {
        Provenance {
            dataset_digest: self.version.digest,
            backbone_sha256: self.backbone.weights_sha256,
            code_version: env!("CARGO_PKG_VERSION").to_owned(),
            threads: None,
            micro_batch: None,
        }
    }

    /// How many images a recipe handles.
    pub(super) fn amounts(&self, wanted: &Finetune) -> Amounts {
        let images =
            |split: Split| self.version.splits.get(&split).map_or(0, |counts| counts.images);
        let all = images(Split::Train);
        let classes = self.version.labels.len() as u64;
        let training = wanted.shots.map_or(all, |shots| all.min(u64::from(shots) * classes));
        Amounts { training, validation: images(Split::Validation), test: images(Split::Test) }
    }

    /// What to measure for a recipe.
    pub(super) fn trial(&self, wanted: &Finetune, threads: usize) -> Trial {
        let network = (self.backbone.architecture, self.backbone.preprocessing.size);
        Trial::of(wanted, network, self.amounts(wanted).training, threads)
    }
}
