//! The images of a dataset version that runs learn from, and whether it has enough of them.

use std::collections::BTreeMap;

use super::error::SubmitError;
use crate::domain::dataset::Version;
use crate::domain::{Split, VersionId};
use crate::service::violation::Violation;
use crate::store::{Store, datasets, versions};

/// A version whose dataset is still there. What was learnt from a deleted one stays on record;
/// nothing more is learnt from it.
pub(super) async fn living(store: &Store, id: VersionId) -> Result<Option<Version>, SubmitError> {
    let Some(version) = versions::one(&store.pool, id).await? else { return Ok(None) };
    let dataset = datasets::one(&store.pool, version.dataset).await?;
    Ok(dataset.map(|_| version))
}

/// Labelled images of each class in the splits that are learnt from.
pub(super) fn pool(version: &Version, learns: impl Fn(Split) -> bool) -> BTreeMap<&str, u64> {
    let counts = Split::ALL.into_iter().filter(|split| learns(*split));
    let counts: Vec<_> = counts.filter_map(|split| version.splits.get(&split)).collect();
    let of = |label: &str| counts.iter().filter_map(|counts| counts.classes.get(label)).sum();
    version.labels.iter().map(|label| (label.as_str(), of(label))).collect()
}

/// Only pretraining can do without labels.
pub(super) fn has_labels(version: &Version, pointer: &str) -> Result<(), SubmitError> {
    if !version.labels.is_empty() {
        return Ok(());
    }
    let detail = "no image of this dataset version has a label; only pretraining learns from it. Add \
                  labels and freeze again";
    Err(SubmitError::wrong(pointer, detail))
}

/// Every class needs as many training images as shots are asked for.
pub(super) fn enough_images(
    pool: &BTreeMap<&str, u64>,
    shots: Option<u32>,
    pointer: &str,
) -> Result<(), SubmitError> {
    let Some(shots) = shots else { return Ok(()) };
    let short: Vec<Violation> = pool
        .iter()
        .filter(|(_, found)| **found < u64::from(shots))
        .map(|(label, found)| {
            let detail = format!(
                "class {label:?} has {found} training images, fewer than the {shots} shots asked \
                 for; lower `shots` to {found} or add images of that class and freeze again"
            );
            Violation::new(pointer, detail)
        })
        .collect();
    if short.is_empty() { Ok(()) } else { Err(SubmitError::Recipe(short)) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use time::OffsetDateTime;

    use super::{SubmitError, enough_images, has_labels, pool};
    use crate::domain::dataset::{SplitCounts, Version};
    use crate::domain::{DatasetId, Sha256, Split, Task, VersionId};

    fn version() -> Version {
        let counts = |left: u64, right: u64| SplitCounts {
            images: left + right,
            patients: left + right,
            classes: BTreeMap::from([("left".to_owned(), left), ("right".to_owned(), right)]),
        };
        Version {
            id: VersionId::new(),
            dataset: DatasetId::new(),
            number: 1,
            task: Task::Classification,
            digest: Sha256::of(b""),
            seed: 0,
            labels: ["left", "right"].map(str::to_owned).to_vec(),
            splits: [(Split::Train, counts(5, 3)), (Split::Validation, counts(1, 2))].into(),
            notices: Vec::new(),
            created_at: OffsetDateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn images_are_counted_in_the_splits_that_are_learnt_from() {
        let version = version();

        let train = pool(&version, |split| split == Split::Train);
        let both = pool(&version, |split| split != Split::Test);

        assert_eq!(train, BTreeMap::from([("left", 5), ("right", 3)]));
        assert_eq!(both, BTreeMap::from([("left", 6), ("right", 5)]));
        assert!(has_labels(&version, "/dataset_version").is_ok());
    }

    #[test]
    fn each_class_with_too_few_images_is_told_by_its_name() {
        let version = version();
        let train = pool(&version, |split| split == Split::Train);

        let short = enough_images(&train, Some(4), "/shots").expect_err("`right` has three");

        let SubmitError::Recipe(told) = short else { panic!("the recipe is at fault") };
        assert_eq!((told.len(), told[0].pointer.as_str()), (1, "/shots"));
        assert!(told[0].detail.contains("\"right\" has 3 training images"), "{}", told[0].detail);
        assert!(enough_images(&train, Some(3), "/shots").is_ok());
    }
}
