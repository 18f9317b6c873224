//! A dataset's images into a version: split, counted and named by what it holds.

use std::collections::{BTreeMap, BTreeSet};

use time::OffsetDateTime;

use super::error::FreezeError;
use crate::domain::dataset::{SplitCounts, Version};
use crate::domain::image::Image;
use crate::domain::patients::by_first_image;
use crate::domain::split::{Item, Shares, SplitError, assign};
use crate::domain::{DatasetId, Sha256, Split, Task, VersionId};
use crate::store::versions::VersionImage;

/// Patients in several splits that are told by their files; the rest is counted.
const LEAKS_SHOWN: usize = 20;

/// Test images of a class below which a version says so.
const FEW_TEST_IMAGES: u64 = 5;

/// The rule by which a version is drawn.
#[derive(Debug, Clone, Copy)]
pub struct Draw {
    /// The dataset.
    pub dataset: DatasetId,
    /// Its task.
    pub task: Task,
    /// Seed of the draw.
    pub seed: u64,
    /// The shares that go into validation and test.
    pub shares: Shares,
    /// Whether images without a label belong to it as well.
    pub include_unlabelled: bool,
}

/// A version that is not frozen yet.
#[derive(Debug)]
pub(super) struct Draft {
    /// The record of it.
    pub(super) version: Version,
    /// The images that it holds.
    pub(super) images: Vec<VersionImage>,
}

/// Draws the splits of the images that have a label; the others are for training, unless their
/// patient is in another split. Where none has a label, all are for training.
///
/// `is_lone` tells of an image that names no patient.
pub(super) fn draft(
    draw: &Draw,
    images: Vec<Image>,
    max_classes: u64,
    is_lone: impl Fn(&Image) -> bool,
) -> Result<Draft, FreezeError> {
    let (images, unlabelled): (Vec<Image>, Vec<Image>) =
        images.into_iter().partition(|image| image.label.is_some());
    let labels: BTreeSet<&str> = images.iter().filter_map(|image| image.label.as_deref()).collect();
    let labels: Vec<String> = labels.into_iter().map(str::to_owned).collect();
    if labels.len() as u64 > max_classes {
        return Err(FreezeError::TooManyClasses { found: labels.len(), max: max_classes });
    }
    let lone = images.iter().chain(&unlabelled).filter(|image| is_lone(image)).count();
    let all = images.len() + unlabelled.len();
    let (mut images, mut notices) = if images.is_empty() && !unlabelled.is_empty() {
        (Vec::new(), Vec::new())
    } else {
        assigned(draw, images, &labels)?
    };
    notices.extend(nameless(lone, all));
    notices.extend(thin_classes(&labels, &images));
    notices.extend(only_for_pretraining(unlabelled.len(), all));
    images.extend(beside(&images, unlabelled));
    let version = Version {
        id: VersionId::new(),
        dataset: draw.dataset,
        number: 0,
        task: draw.task,
        digest: digest(&images),
        seed: draw.seed,
        splits: Split::ALL.into_iter().map(|split| (split, count(&images, split))).collect(),
        labels,
        notices,
        created_at: OffsetDateTime::UNIX_EPOCH,
    };
    Ok(Draft { version, images })
}

/// Labelled images, each with its split, and what a person should know about it.
fn assigned(
    draw: &Draw,
    mut images: Vec<Image>,
    labels: &[String],
) -> Result<(Vec<VersionImage>, Vec<String>), FreezeError> {
    // The same images are drawn alike on every server: keys of patients depend on its secret.
    images.sort_by_key(|image| (image.blob, image.frame));
    let named = by_first_image(images.iter().map(|image| image.patient_key.as_str()));
    let pairs = images.iter().zip(&named);
    let items: Vec<Item<'_>> =
        pairs.filter_map(|(image, patient)| item(image, patient, labels)).collect();
    let assigned =
        assign(&items, draw.shares, draw.seed).map_err(|error| refused(error, labels, &images))?;
    let pairs = images.into_iter().zip(assigned.splits);
    let images = pairs.map(|(image, split)| VersionImage { image, split }).collect();
    Ok((images, assigned.notices))
}

/// Images without a label beside those that have one: no patient is in two splits.
fn beside(labelled: &[VersionImage], unlabelled: Vec<Image>) -> Vec<VersionImage> {
    let of_patient: BTreeMap<&str, Split> =
        labelled.iter().map(|entry| (entry.image.patient_key.as_str(), entry.split)).collect();
    let placed = unlabelled.into_iter().map(|image| {
        let known = of_patient.get(image.patient_key.as_str());
        VersionImage { split: known.copied().unwrap_or(Split::Train), image }
    });
    placed.collect()
}

/// The notice of what images without a label are good for.
fn only_for_pretraining(unlabelled: usize, images: usize) -> Option<String> {
    (unlabelled > 0).then(|| {
        format!(
            "{unlabelled} of {images} images have no label: pretraining learns from them, \
             fine-tuning does not."
        )
    })
}

/// The notice of what it means that patients are not known.
fn nameless(lone: usize, images: usize) -> Option<String> {
    (lone > 0).then(|| {
        format!(
            "{lone} of {images} images name no patient, and each of them counts as a patient of \
             its own. Should one patient have several of them, they may be on both sides of the \
             split, and the evaluation would look better than it is; a `patient` column in \
             labels.csv prevents that."
        )
    })
}

/// Classes whose test images are too few to say anything.
fn thin_classes(labels: &[String], images: &[VersionImage]) -> Vec<String> {
    let test = count(images, Split::Test).classes;
    let of = |label: &String| test.get(label).copied().unwrap_or_default();
    labels
        .iter()
        .filter(|label| of(label) < FEW_TEST_IMAGES)
        .map(|label| {
            format!(
                "Class {label:?} has {} test image(s): how well it is recognised cannot be told \
                 from so few.",
                of(label)
            )
        })
        .collect()
}

fn item<'a>(image: &Image, patient: &'a str, labels: &[String]) -> Option<Item<'a>> {
    let label = image.label.as_ref()?;
    let label = labels.binary_search(label).ok()?;
    Some(Item { label, patient, given: image.split })
}

/// Classes and files are told by name where the split knows only numbers and keys.
fn refused(error: SplitError, labels: &[String], images: &[Image]) -> FreezeError {
    match error {
        SplitError::PatientLeak { .. } => {
            FreezeError::PatientLeak { split: error, images: leaks(images) }
        }
        SplitError::ClassWithoutTraining { label } => {
            let class = labels.get(label).cloned().unwrap_or_default();
            FreezeError::ClassWithoutTraining { class }
        }
        SplitError::BadShares { .. } => FreezeError::BadShares(error),
        SplitError::NoLabels
        | SplitError::OneClass
        | SplitError::OnePatient
        | SplitError::EmptyTest { .. } => FreezeError::TooFew(error),
    }
}

/// For each patient that is marked for several splits, the first two files that say so.
fn leaks(images: &[Image]) -> Vec<String> {
    let mut first: BTreeMap<&str, (&Image, Split)> = BTreeMap::new();
    let mut told = BTreeMap::new();
    for image in images {
        let Some(split) = image.split else { continue };
        let patient = image.patient_key.as_str();
        let (before, known) = *first.entry(patient).or_insert((image, split));
        if known != split {
            told.entry(patient).or_insert_with(|| {
                let (one, other) = (before.shown(), image.shown());
                format!("one patient has image {one} in {known} and image {other} in {split}")
            });
        }
    }
    told.into_values().take(LEAKS_SHOWN).collect()
}

fn count(images: &[VersionImage], split: Split) -> SplitCounts {
    let mut counts = SplitCounts::default();
    let mut patients = BTreeSet::new();
    for entry in images.iter().filter(|entry| entry.split == split) {
        counts.images += 1;
        patients.insert(entry.image.patient_key.as_str());
        if let Some(label) = &entry.image.label {
            *counts.classes.entry(label.clone()).or_default() += 1;
        }
    }
    counts.patients = patients.len() as u64;
    counts
}

/// Depends on content only: neither on ids nor on the order of uploads.
fn digest(images: &[VersionImage]) -> Sha256 {
    let mut lines: Vec<String> = images
        .iter()
        .map(|VersionImage { image, split }| {
            let content = (&image.blob, image.frame, &image.label, &image.patient_key, split);
            // JSON keeps the parts apart, whatever a label holds.
            serde_json::json!(content).to_string()
        })
        .collect();
    lines.sort_unstable();
    Sha256::of(lines.join("\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::{Draw, VersionImage, draft};
    use crate::domain::image::{Format, Image};
    use crate::domain::split::Shares;
    use crate::domain::{DatasetId, ImageId, Sha256, Split, Task};

    fn images() -> Vec<Image> {
        let image = |number: u32| Image {
            id: ImageId::new(),
            dataset: DatasetId::new(),
            number: u64::from(number) + 1,
            frame: 0,
            label: Some(["left", "right"][number as usize % 2].to_owned()),
            patient_key: format!("patient {}", number / 2),
            split: None,
            format: Format::Png,
            width: 8,
            height: 8,
            modality: None,
            window: None,
            blob: Sha256::of(&number.to_le_bytes()),
            size_bytes: 1,
            created_at: OffsetDateTime::UNIX_EPOCH,
        };
        (0..40).map(image).collect()
    }

    fn draw() -> Draw {
        let shares = Shares { validation: 0.15, test: 0.25 };
        let (dataset, task) = (DatasetId::new(), Task::Classification);
        Draw { dataset, task, seed: 0, shares, include_unlabelled: true }
    }

    #[test]
    fn equal_content_gives_equal_digests_whatever_the_ids_and_labels_change_them() {
        let mut other = images();
        other[3].label = Some("left".to_owned());

        let one = draft(&draw(), images(), 10, |_| false).expect("a draft").version;
        let same = draft(&draw(), images(), 10, |_| false).expect("a draft").version;
        let changed = draft(&draw(), other, 10, |_| false).expect("a draft").version;

        assert_eq!(one.digest, same.digest);
        assert_ne!(one.digest, changed.digest);
    }

    #[test]
    fn the_same_images_are_split_alike_whatever_the_keys_of_their_patients() {
        let split = |key: fn(u32) -> u32, backwards: bool| {
            let mut images = images();
            for (image, number) in images.iter_mut().zip(0..) {
                image.patient_key = format!("{:03}", key(number / 2));
            }
            if backwards {
                images.reverse();
            }
            let found = draft(&draw(), images, 10, |_| false).expect("a draft").images;
            let test = found.into_iter().filter(|entry| entry.split == Split::Test);
            test.map(|entry| entry.image.number).collect::<std::collections::BTreeSet<u64>>()
        };

        let one = split(|patient| patient, false);
        assert_eq!(one, split(|patient| 997 - patient * 37 % 41, true));
        assert!(!one.is_empty());
    }

    #[test]
    fn images_without_a_label_follow_their_patient_and_else_are_for_training() {
        let mut images = images();
        for image in &mut images[30..] {
            image.label = None;
        }
        let with_labels = draft(&draw(), images.clone(), 10, |_| false).expect("a draft");
        let split = |patient: &str| {
            let of = |entry: &&VersionImage| entry.image.patient_key == patient;
            let found = with_labels.images.iter().filter(of).map(|entry| entry.split);
            found.collect::<std::collections::BTreeSet<Split>>()
        };

        assert!((0..20).all(|patient| split(&format!("patient {patient}")).len() == 1));
        assert_eq!(split("patient 19"), [Split::Train].into());
        assert_eq!(with_labels.images.len(), 40);
        let train = &with_labels.version.splits[&Split::Train];
        assert_eq!(train.images, train.classes.values().sum::<u64>() + 10);

        images.iter_mut().for_each(|image| image.label = None);
        let without = draft(&draw(), images, 10, |_| false).expect("a draft").version;
        assert_eq!((without.labels.len(), without.splits[&Split::Train].images), (0, 40));
        assert!(without.notices.iter().any(|notice| notice.starts_with("40 of 40 images")));
        assert!(draft(&draw(), Vec::new(), 10, |_| false).is_err());
    }

    #[test]
    fn counts_cover_every_split_and_every_image() {
        let version = draft(&draw(), images(), 10, |_| false).expect("a draft").version;

        let counted: u64 = Split::ALL.iter().map(|split| version.splits[split].images).sum();
        assert_eq!(counted, 40);
        assert_eq!(version.labels, ["left", "right"]);
    }
}
