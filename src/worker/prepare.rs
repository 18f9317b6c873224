//! The things that runs of every kind look up before anything is computed.

use std::collections::BTreeMap;

use super::Worker;
use crate::domain::dataset::Version;
use crate::domain::image::Image;
use crate::domain::line::MAX_LINE_CHARS;
use crate::domain::name::Name;
use crate::domain::{Target, VersionId};
use crate::store::queue::Ending;
use crate::store::versions::VersionImage;
use crate::store::{StoreError, datasets, versions};
use crate::training::Example;

/// The reason why a run cannot even begin.
#[derive(Debug, thiserror::Error)]
pub(super) enum PrepareError {
    /// The thing it names is gone.
    #[error("the {0} of the run no longer exists")]
    Gone(&'static str),
    /// An image of the version carries a label that the version does not list.
    #[error("the dataset version is damaged: an image has the unlisted label {0:?}")]
    UnknownLabel(String),
    /// The store failed; another attempt may succeed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl PrepareError {
    /// The end of a run that could not begin.
    pub(super) fn ending(&self) -> Ending {
        match self {
            Self::Store(error) if !error.is_damage() => Ending::Stumbled(error.to_string()),
            Self::Gone(_) | Self::UnknownLabel(_) | Self::Store(_) => {
                Ending::Failed(self.to_string())
            }
        }
    }
}

/// A frozen version with its dataset's name.
pub(super) struct Frozen {
    pub(super) version: Version,
    pub(super) dataset: Name,
}

impl Worker {
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
            examples.push(example(entry, Target::Class(*at)));
        }
        Ok(examples)
    }
}

/// An image of a version with its target.
pub(super) fn example(VersionImage { image, split }: VersionImage, target: Target) -> Example {
    let Image { id, blob, frame, patient_key, .. } = image;
    Example { image: id, blob, frame, target, patient: patient_key, split }
}

/// A name as far as it may be long, or the other one where it cannot be a name.
pub(super) fn composed(made: &str, otherwise: &Name) -> Name {
    let made: String = made.chars().take(MAX_LINE_CHARS).collect();
    Name::parse(&made).unwrap_or_else(|_| otherwise.clone())
}
