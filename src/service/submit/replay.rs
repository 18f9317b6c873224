//! Replays: a finished run done again as far as some steps, its losses compared with those on record.

use super::error::SubmitError;
use super::finetune;
use crate::domain::run::{Provenance, Replay, Run, Spec, Status};
use crate::domain::{BackboneId, VersionId};
use crate::store::Store;
use crate::store::runs::NewRun;

/// A replay that can be queued.
pub(super) struct Asked {
    spec: Spec,
    provenance: Provenance,
    dataset_version: VersionId,
    backbone: BackboneId,
}

/// Checks that the run can be replayed and that what it was made from is there.
pub(super) async fn check(store: &Store, run: Run, steps: u32) -> Result<Asked, SubmitError> {
    let (Spec::Finetune(recipe), Status::Succeeded) = (run.spec, run.status) else {
        return Err(SubmitError::NotReplayable);
    };
    let provenance = finetune::check(store, &recipe).await?.provenance();
    let (dataset_version, backbone) = (recipe.dataset_version, recipe.backbone);
    let spec = Spec::Replay(Replay { run: run.id, steps, recipe });
    Ok(Asked { spec, provenance, dataset_version, backbone })
}

impl Asked {
    /// The run that is queued.
    pub(super) fn new_run(&self) -> NewRun<'_> {
        NewRun {
            spec: &self.spec,
            provenance: &self.provenance,
            dataset_version: self.dataset_version,
            backbone: Some(self.backbone),
            once: None,
        }
    }
}
