//! The three parts of a dataset version, and the honest draw of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use crate::domain::words::word::UnknownWord;

/// Which part of a version an image belongs to. No patient is ever in two parts.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// What the model learns from.
    Train,
    /// What decides when to stop; a probe, which stops by itself, learns from it too.
    Validation,
    /// What the evaluation is measured on, and nothing else.
    Test,
}

impl Split {
    /// Every split, in order.
    pub const ALL: [Self; 3] = [Self::Train, Self::Validation, Self::Test];

    /// The word used in JSON, SQL and `labels.csv`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Split {
    type Err = UnknownWord;

    /// Reads the word; `val` and `valid` are accepted for `validation`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim().to_ascii_lowercase().as_str() {
            "train" | "training" => Ok(Self::Train),
            "validation" | "val" | "valid" => Ok(Self::Validation),
            "test" | "testing" => Ok(Self::Test),
            _ => Err(UnknownWord::new("split", text)),
        }
    }
}

/// One labelled image, as the split sees it.
#[derive(Debug, Clone, Copy)]
pub struct Item<'a> {
    /// Index of its class.
    pub label: usize,
    /// Key of its patient.
    pub patient: &'a str,
    /// The split that the labels ask for, if they do.
    pub given: Option<Split>,
}

/// The shares of the images that go into validation and test; the rest is for training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shares {
    /// Share for validation, 0 to below 1.
    pub validation: f64,
    /// Share for test, above 0 and below 1.
    pub test: f64,
}

/// A split of every item, and what a person should know about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// In the order of the items.
    pub splits: Vec<Split>,
    /// The notices of how the labels' own splits were read, where that needed a decision.
    pub notices: Vec<String>,
}

/// The reason why no honest split exists.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum SplitError {
    /// Shares that leave nothing for training or for test.
    #[error(
        "shares of {validation} for validation and {test} for test are not possible: both must be \
         at least 0, test above 0, and their sum below 1"
    )]
    BadShares {
        /// Share asked for validation.
        validation: f64,
        /// Share asked for test.
        test: f64,
    },
    /// No image has a label.
    #[error(
        "no image has a label; add a folder per class or a labels.csv, or freeze with \
         `include_unlabelled` to pretrain on them"
    )]
    NoLabels,
    /// There is nothing to tell apart.
    #[error("all labelled images are of one class; at least two classes are needed")]
    OneClass,
    /// Nothing could be held out.
    #[error(
        "all labelled images are of one patient; at least two patients are needed, since no \
         patient may be in two splits"
    )]
    OnePatient,
    /// The labels put one patient's images into several splits.
    #[error(
        "the labels put the images of {patients} patient(s) into more than one split; every \
         patient must be in one split only"
    )]
    PatientLeak {
        /// Patients in more than one split.
        patients: usize,
    },
    /// A class has no training image.
    #[error("class number {label} has no training image")]
    ClassWithoutTraining {
        /// Index of the class.
        label: usize,
    },
    /// The patients do not reach for a test split.
    #[error(
        "no patient could be held out for the test split: {patients} patients over {classes} \
         classes are too few; add patients, or mark some images as `test`"
    )]
    EmptyTest {
        /// Patients there are.
        patients: usize,
        /// Classes there are.
        classes: usize,
    },
}

/// Assigns every item to a split, stratified by class, never separating one patient's images.
///
/// Splits that the labels give are honoured. When they mark validation but no test images, the
/// marked ones are the held-out set and become the test split. A part that is still empty is drawn
/// from the patients that are free or marked for training. The draw goes through the patients
/// from the largest to the smallest, equal ones in an order drawn from `seed`, and gives each to
/// the part that lacks its classes most, relative to the size of each class.
pub fn assign(items: &[Item<'_>], shares: Shares, seed: u64) -> Result<Assignment, SplitError> {
    check_shares(shares)?;
    let classes = items.iter().map(|item| item.label + 1).max().ok_or(SplitError::NoLabels)?;
    let patients = patients(items, classes)?;
    let present = (0..classes).filter(|class| items.iter().any(|item| item.label == *class));
    if present.count() < 2 {
        return Err(SplitError::OneClass);
    }
    if patients.len() < 2 {
        return Err(SplitError::OnePatient);
    }

    let (marked, notices) = read_marks(&patients);
    let chosen = draw(&patients, &marked, shares, seed);

    let splits: Vec<Split> = items.iter().map(|item| chosen[item.patient]).collect();
    let in_split = |class: usize, split: Split| {
        items.iter().zip(&splits).any(|(item, found)| item.label == class && *found == split)
    };
    for label in 0..classes {
        if items.iter().any(|item| item.label == label) && !in_split(label, Split::Train) {
            return Err(SplitError::ClassWithoutTraining { label });
        }
    }
    if !splits.contains(&Split::Test) {
        return Err(SplitError::EmptyTest { patients: patients.len(), classes });
    }
    Ok(Assignment { splits, notices })
}

/// One patient's images: how many of each class, and the split they are marked for.
struct Patient<'a> {
    key: &'a str,
    counts: Vec<f64>,
    given: Option<Split>,
}

fn check_shares(shares: Shares) -> Result<(), SplitError> {
    let Shares { validation, test } = shares;
    let possible = validation >= 0.0 && test > 0.0 && validation + test < 1.0;
    if possible { Ok(()) } else { Err(SplitError::BadShares { validation, test }) }
}

fn patients<'a>(items: &[Item<'a>], classes: usize) -> Result<Vec<Patient<'a>>, SplitError> {
    let mut patients: BTreeMap<&str, Patient<'a>> = BTreeMap::new();
    let mut leaking = BTreeSet::new();
    for item in items {
        let patient = patients.entry(item.patient).or_insert_with(|| Patient {
            key: item.patient,
            counts: vec![0.0; classes],
            given: None,
        });
        patient.counts[item.label] += 1.0;
        match (patient.given, item.given) {
            (Some(before), Some(now)) if before != now => {
                leaking.insert(item.patient);
            }
            (None, Some(now)) => patient.given = Some(now),
            _ => {}
        }
    }
    if leaking.is_empty() {
        Ok(patients.into_values().collect())
    } else {
        Err(SplitError::PatientLeak { patients: leaking.len() })
    }
}

/// The splits that the labels mark each patient for, and the notices of how that was read.
fn read_marks(patients: &[Patient<'_>]) -> (Vec<Option<Split>>, Vec<String>) {
    let marks = |split| patients.iter().any(|patient| patient.given == Some(split));
    let mut marked: Vec<Option<Split>> = patients.iter().map(|patient| patient.given).collect();
    let mut notices = Vec::new();
    if marks(Split::Validation) && !marks(Split::Test) {
        marked.iter_mut().filter(|mark| **mark == Some(Split::Validation)).for_each(|mark| {
            *mark = Some(Split::Test);
        });
        notices.push(
            "The labels mark validation but no test images; the marked ones are used for the test."
                .to_owned(),
        );
    }
    if marks(Split::Train) && !marked.contains(&Some(Split::Validation)) {
        notices.push(
            "The labels mark no further validation images; they were drawn from training patients."
                .to_owned(),
        );
    }
    (marked, notices)
}

fn draw<'a>(
    patients: &[Patient<'a>],
    marked: &[Option<Split>],
    shares: Shares,
    seed: u64,
) -> BTreeMap<&'a str, Split> {
    let fixed = |mark: Option<Split>| mark.filter(|split| *split != Split::Train);
    let mut chosen: BTreeMap<&str, Split> = BTreeMap::new();
    let mut pool = Vec::new();
    for (patient, mark) in patients.iter().zip(marked) {
        match fixed(*mark) {
            Some(split) => drop(chosen.insert(patient.key, split)),
            None => pool.push(patient),
        }
    }

    let share = |split: Split| match split {
        Split::Validation => shares.validation,
        Split::Test => shares.test,
        Split::Train => 0.0,
    };
    let open: Vec<Split> = [Split::Test, Split::Validation]
        .into_iter()
        .filter(|split| !marked.contains(&Some(*split)) && share(*split) > 0.0)
        .collect();
    let taken: f64 = open.iter().map(|split| share(*split)).sum();
    // Training comes first, so that it wins a tie: a class with one patient must be learnt from.
    let parts: Vec<(Split, f64)> = std::iter::once((Split::Train, 1.0 - taken))
        .chain(open.into_iter().map(|split| (split, share(split))))
        .collect();

    let classes = patients.first().map_or(0, |patient| patient.counts.len());
    let totals: Vec<f64> =
        (0..classes).map(|class| pool.iter().map(|patient| patient.counts[class]).sum()).collect();
    let mut lacking: Vec<Vec<f64>> =
        parts.iter().map(|(_, share)| totals.iter().map(|total| share * total).collect()).collect();

    pool.shuffle(&mut StdRng::seed_from_u64(seed));
    let size = |patient: &Patient<'_>| patient.counts.iter().sum::<f64>();
    pool.sort_by(|one, other| size(other).total_cmp(&size(one)));
    for patient in pool {
        let need = |lacking: &[f64]| -> f64 {
            let classes = patient.counts.iter().zip(lacking).zip(&totals);
            classes
                .filter(|((count, _), _)| **count > 0.0)
                .map(|((count, lacking), total)| count * lacking / total)
                .sum()
        };
        let mut best = 0;
        for part in 1..parts.len() {
            if need(&lacking[part]) > need(&lacking[best]) {
                best = part;
            }
        }
        for (lacking, count) in lacking[best].iter_mut().zip(&patient.counts) {
            *lacking -= count;
        }
        chosen.insert(patient.key, parts[best].0);
    }
    chosen
}
