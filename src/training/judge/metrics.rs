//! The worth of predicted probabilities: discrimination, agreement and calibration.
//!
//! Every metric takes a whole number of times that each image counts, so that a bootstrap resample
//! costs one pass over images that were sorted once. The definitions are scikit-learn's where it
//! has one; `scripts/fixtures/metrics.py` holds them to each other.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Bins of the calibration error.
const BINS: usize = 15;

/// A test image, what it is, and what the model makes of it.
#[derive(Debug, Clone, Copy)]
pub struct Judged<'a> {
    /// Index of its class.
    pub truth: usize,
    /// Predicted probability of each class, `[K]`, each 0 to 1.
    pub probabilities: &'a [f32],
    /// Key of its patient.
    pub patient: &'a str,
}

/// The reason why predictions cannot be judged.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum CannotJudge {
    /// There is nothing to judge.
    #[error("the test split has no image")]
    NoImages,
    /// A class that is not there.
    #[error("test image {image} is of class number {truth}; there are {classes} classes")]
    UnknownClass {
        /// Index of the image.
        image: usize,
        /// Its class.
        truth: usize,
        /// Classes there are.
        classes: usize,
    },
    /// Not one probability for each class.
    #[error("test image {image} has {found} probabilities; there are {classes} classes")]
    WrongLength {
        /// Index of the image.
        image: usize,
        /// Probabilities it has.
        found: usize,
        /// Classes there are.
        classes: usize,
    },
    /// A probability outside of 0 to 1, or not a number: the model has diverged.
    #[error("test image {image} has {probability} as a probability")]
    NotAProbability {
        /// Index of the image.
        image: usize,
        /// The value.
        probability: f32,
    },
}

/// The metrics of one set of images.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scores {
    /// Share of images whose most probable class is the true one; a tie goes to the first class.
    pub accuracy: f64,
    /// Mean recall over the classes that occur.
    pub balanced_accuracy: f64,
    /// Mean one-vs-rest area under the ROC curve over the classes with images both in and out of
    /// them; none when there is no such class.
    pub macro_auroc: Option<f64>,
    /// Mean one-vs-rest average precision over the same classes.
    pub macro_auprc: Option<f64>,
    /// Mean F1 over the classes that occur or are predicted.
    pub macro_f1: f64,
    /// Mean squared distance of the probabilities from the one-hot truth, 0 to 2.
    pub brier: f64,
    /// Mean of `-ln p` of the true class, in nats; a probability of 0 counts as the smallest number
    /// there is.
    pub log_loss: f64,
    /// Expected calibration error of the most probable class (Guo et al. 2017, eq. 3), 15 bins
    /// `(m/15, (m+1)/15]`.
    pub ece: f64,
}

/// Judged images, sorted and reduced to what the metrics need.
#[derive(Debug, Clone)]
pub struct Scorer {
    images: Vec<Image>,
    /// For each class, every image from the most to the least probable.
    rankings: Vec<Vec<Ranked>>,
}

#[derive(Debug, Clone, Copy)]
struct Image {
    truth: usize,
    top: usize,
    confidence: f64,
    squared_error: f64,
    surprise: f64,
}

#[derive(Debug, Clone, Copy)]
struct Ranked {
    image: usize,
    positive: bool,
    /// The next image has a lower probability, or there is none.
    ends_tie: bool,
}

impl Scorer {
    /// Checks and sorts the images.
    pub fn new(judged: &[Judged<'_>], classes: usize) -> Result<Self, CannotJudge> {
        check(judged, classes)?;
        let images = judged.iter().map(Image::new).collect();
        let rankings = (0..classes).map(|class| rank(judged, class)).collect();
        Ok(Self { images, rankings })
    }

    /// The metrics when image `i` counts `weights[i]` times.
    ///
    /// # Panics
    /// When there is not one weight an image, or all are zero.
    pub fn score(&self, weights: &[u32]) -> Scores {
        assert_eq!(weights.len(), self.images.len(), "one weight an image");
        let confusion = self.confusion(weights);
        let total = confusion.iter().flatten().sum::<u64>() as f64;
        assert!(total > 0.0, "some image counts");
        let correct: u64 = (0..confusion.len()).map(|class| confusion[class][class]).sum();
        let squared = self.images.iter().zip(weights);
        let squared: f64 = squared.map(|(image, w)| f64::from(*w) * image.squared_error).sum();
        let surprise = self.images.iter().zip(weights);
        let surprise: f64 = surprise.map(|(image, w)| f64::from(*w) * image.surprise).sum();

        let occurs = |class: &usize| confusion[*class].iter().any(|count| *count > 0);
        let with_both = |class: &usize| {
            let positives: u64 = confusion[*class].iter().sum();
            positives > 0 && (positives as f64) < total
        };
        let ranked: Vec<(f64, f64)> = (0..confusion.len())
            .filter(with_both)
            .map(|class| areas(&self.rankings[class], weights))
            .collect();
        Scores {
            accuracy: correct as f64 / total,
            balanced_accuracy: mean(
                (0..confusion.len()).filter(occurs).map(|class| recall(&confusion, class)),
            )
            .unwrap_or(0.0),
            macro_auroc: mean(ranked.iter().map(|(auroc, _)| *auroc)),
            macro_auprc: mean(ranked.iter().map(|(_, precision)| *precision)),
            macro_f1: mean((0..confusion.len()).filter_map(|class| f1(&confusion, class)))
                .unwrap_or(0.0),
            brier: squared / total,
            log_loss: surprise / total,
            ece: self.calibration_error(weights) / total,
        }
    }

    /// `confusion[truth][predicted]`, counts of images.
    pub fn confusion(&self, weights: &[u32]) -> Vec<Vec<u64>> {
        let classes = self.rankings.len();
        let mut confusion = vec![vec![0; classes]; classes];
        for (image, weight) in self.images.iter().zip(weights) {
            confusion[image.truth][image.top] += u64::from(*weight);
        }
        confusion
    }

    fn calibration_error(&self, weights: &[u32]) -> f64 {
        let images = self.images.iter().zip(weights);
        gaps(images.map(|(image, weight)| {
            (image.confidence, image.top == image.truth, f64::from(*weight))
        }))
    }
}

impl Image {
    fn new(judged: &Judged<'_>) -> Self {
        let mut top = 0;
        let mut squared_error = 0.0;
        for (class, probability) in judged.probabilities.iter().enumerate() {
            if *probability > judged.probabilities[top] {
                top = class;
            }
            let truth = if class == judged.truth { 1.0 } else { 0.0 };
            squared_error += (f64::from(*probability) - truth).powi(2);
        }
        let confidence = f64::from(judged.probabilities[top]);
        let own = judged.probabilities.get(judged.truth).copied().unwrap_or(0.0);
        let surprise = -f64::from(own.max(f32::MIN_POSITIVE)).ln();
        Self { truth: judged.truth, top, confidence, squared_error, surprise }
    }
}

/// `Σₘ |Bₘ| · |acc(Bₘ) − conf(Bₘ)|`, which is `Σₘ |correct − total confidence|`, of images as
/// (confidence, whether it is right, how often it counts).
fn gaps(images: impl Iterator<Item = (f64, bool, f64)>) -> f64 {
    let mut gaps = [0.0_f64; BINS];
    for (confidence, is_right, weight) in images {
        let correct = if is_right { 1.0 } else { 0.0 };
        let bin = ((confidence * BINS as f64).ceil() as usize).clamp(1, BINS) - 1;
        gaps[bin] += weight * (correct - confidence);
    }
    gaps.iter().map(|gap| gap.abs()).sum()
}

/// The calibration error of `draws` sets of labels that are drawn from the predicted probabilities
/// themselves, which are then perfectly calibrated.
pub fn calibrated(judged: &[Judged<'_>], draws: u32, seed: u64) -> Vec<f64> {
    let images: Vec<Image> = judged.iter().map(Image::new).collect();
    let mut random = StdRng::seed_from_u64(seed);
    let mut draw = || {
        let image = |image: &Image| {
            let is_right = random.random::<f64>() < image.confidence;
            (image.confidence, is_right, 1.0)
        };
        gaps(images.iter().map(image)) / images.len().max(1) as f64
    };
    (0..draws).map(|_| draw()).collect()
}

fn check(judged: &[Judged<'_>], classes: usize) -> Result<(), CannotJudge> {
    if judged.is_empty() {
        return Err(CannotJudge::NoImages);
    }
    for (image, judged) in judged.iter().enumerate() {
        let (truth, found) = (judged.truth, judged.probabilities.len());
        if truth >= classes {
            return Err(CannotJudge::UnknownClass { image, truth, classes });
        }
        if found != classes {
            return Err(CannotJudge::WrongLength { image, found, classes });
        }
        let mut values = judged.probabilities.iter();
        if let Some(probability) = values.find(|value| !(0.0..=1.0).contains(*value)) {
            return Err(CannotJudge::NotAProbability { image, probability: *probability });
        }
    }
    Ok(())
}

fn rank(judged: &[Judged<'_>], class: usize) -> Vec<Ranked> {
    let probability = |image: usize| judged[image].probabilities[class];
    let mut order: Vec<usize> = (0..judged.len()).collect();
    order.sort_by(|one, other| probability(*other).total_cmp(&probability(*one)));
    let next = order.iter().skip(1).map(|image| Some(probability(*image))).chain([None]);
    order
        .iter()
        .zip(next)
        .map(|(image, next)| Ranked {
            image: *image,
            positive: judged[*image].truth == class,
            ends_tie: next.is_none_or(|next| next < probability(*image)),
        })
        .collect()
}

/// The area under the ROC curve and the average precision of a ranking that holds both kinds.
///
/// The first is the Mann-Whitney statistic: the share of pairs of a positive and a negative in
/// which the positive is more probable, ties counted half. The second is
/// `Σ (Rₙ − Rₙ₋₁) Pₙ` over the distinct probabilities as thresholds, without interpolation.
fn areas(ranking: &[Ranked], weights: &[u32]) -> (f64, f64) {
    let (mut positives, mut negatives) = (0_u64, 0_u64);
    let (mut tied_positives, mut tied_negatives) = (0_u64, 0_u64);
    let (mut doubled_pairs, mut precision) = (0_u64, 0.0);
    for ranked in ranking {
        let weight = u64::from(weights[ranked.image]);
        if ranked.positive {
            tied_positives += weight;
        } else {
            tied_negatives += weight;
        }
        if !ranked.ends_tie {
            continue;
        }
        doubled_pairs += tied_negatives * (2 * positives + tied_positives);
        positives += tied_positives;
        negatives += tied_negatives;
        if tied_positives > 0 {
            let predicted = (positives + negatives) as f64;
            precision += tied_positives as f64 * positives as f64 / predicted;
        }
        (tied_positives, tied_negatives) = (0, 0);
    }
    let pairs = positives as f64 * negatives as f64;
    (doubled_pairs as f64 / 2.0 / pairs, precision / positives as f64)
}

fn recall(confusion: &[Vec<u64>], class: usize) -> f64 {
    confusion[class][class] as f64 / confusion[class].iter().sum::<u64>() as f64
}

/// `2 TP / (2 TP + FP + FN)`; none for a class that neither occurs nor is predicted.
fn f1(confusion: &[Vec<u64>], class: usize) -> Option<f64> {
    let occurs: u64 = confusion[class].iter().sum();
    let predicted: u64 = confusion.iter().map(|row| row[class]).sum();
    let both = occurs + predicted;
    (both > 0).then(|| 2.0 * confusion[class][class] as f64 / both as f64)
}

/// None of nothing.
fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (count, sum) = values.fold((0_u32, 0.0), |(count, sum), value| (count + 1, sum + value));
    (count > 0).then(|| sum / f64::from(count))
}
