//! The evaluation of a model on held-out images: every metric with its interval, and what a reader
//! must know before believing them.

use std::collections::BTreeSet;

use super::bootstrap::{Patients, leave_one_out, resample};
use super::interval::{Sampled, estimate};
use super::metrics::{CannotJudge, Judged, Scorer, Scores, calibrated};
use crate::domain::evaluation::{Calibration, ClassificationEvaluation, Estimate};

/// Patients of a class below which an interval says little.
const FEW_PATIENTS: usize = 6;
/// Share of resamples without a defined metric above which a reader is told.
const MANY_UNDEFINED: f64 = 0.05;
/// A model whose surest answer is no further above guessing than this tells nothing apart.
const FLAT: f64 = 0.03;
/// Ranges of the metrics.
const AREA: (f64, f64) = (0.0, 1.0);
const SHARE: (f64, f64) = (0.0, 1.0);
const BRIER: (f64, f64) = (0.0, 2.0);
const LOSS: (f64, f64) = (0.0, f64::INFINITY);

/// Everything that the metrics are computed from.
struct Sample {
    patients: Patients,
    scores: Scores,
    draws: Vec<Scores>,
    without: Vec<Vec<Scores>>,
}

impl Sample {
    /// A metric with its interval, where it is defined. A resample in which it is not does not count.
    fn of(&self, metric: fn(&Scores) -> Option<f64>, range: &(f64, f64)) -> Option<Estimate> {
        let classes = self.without.iter();
        let sampled = Sampled {
            draws: self.draws.iter().filter_map(metric).collect(),
            without: classes.map(|class| class.iter().filter_map(metric).collect()).collect(),
            patients: self.patients.count(),
            fewest: self.patients.fewest(),
            range,
            counts_right_answers: false,
        };
        Some(estimate(metric(&self.scores)?, sampled))
    }

    /// The same of a metric that is always defined and counts right answers.
    fn share(&self, metric: fn(&Scores) -> f64) -> Estimate {
        let sampled = Sampled {
            draws: self.draws.iter().map(metric).collect(),
            without: self.without.iter().map(|of| of.iter().map(metric).collect()).collect(),
            patients: self.patients.count(),
            fewest: self.patients.fewest(),
            range: &SHARE,
            counts_right_answers: true,
        };
        estimate(metric(&self.scores), sampled)
    }
}

/// Evaluates predictions over the classes `labels`, with intervals from `resamples` draws of
/// patients seeded by `seed`.
pub fn evaluate(
    labels: &[String],
    judged: &[Judged<'_>],
    resamples: u32,
    seed: u64,
) -> Result<ClassificationEvaluation, CannotJudge> {
    let scorer = Scorer::new(judged, labels.len())?;
    let patients = Patients::of(judged);
    let once = vec![1; judged.len()];
    let sample = Sample {
        scores: scorer.score(&once),
        draws: resample(&scorer, &patients, resamples, seed),
        without: if resamples > 0 { leave_one_out(&scorer, &patients) } else { Vec::new() },
        patients,
    };
    let balanced_accuracy = sample.share(|scores| scores.balanced_accuracy);
    let nothing = Estimate { value: 0.0, low: 0.0, high: 0.0 };
    let brier = sample.of(|scores| Some(scores.brier), &BRIER).unwrap_or(nothing);
    Ok(ClassificationEvaluation {
        labels: labels.to_vec(),
        images: judged.len() as u64,
        patients: sample.patients.count() as u64,
        accuracy: sample.share(|scores| scores.accuracy),
        balanced_accuracy,
        macro_auroc: sample.of(|scores| scores.macro_auroc, &AREA),
        macro_auprc: sample.of(|scores| scores.macro_auprc, &AREA),
        macro_f1: sample.share(|scores| scores.macro_f1),
        brier,
        log_loss: sample.of(|scores| Some(scores.log_loss), &LOSS),
        ece: calibration(judged, sample.scores.ece, resamples, seed),
        confusion: scorer.confusion(&once),
        resamples,
        repeats: None,
        baselines: Vec::new(),
        notices: notices(labels, judged, &sample, balanced_accuracy),
    })
}

/// The calibration error beside those of labels drawn from the probabilities.
fn calibration(judged: &[Judged<'_>], value: f64, resamples: u32, seed: u64) -> Calibration {
    let mut errors = calibrated(judged, resamples, seed);
    errors.sort_by(f64::total_cmp);
    let mean = errors.iter().sum::<f64>() / errors.len().max(1) as f64;
    let high = errors.get(errors.len() * 19 / 20).copied();
    Calibration { value, by_chance: high.map(|_| mean), by_chance_95: high }
}

/// The notice that a reader must not overlook: a model that tells nothing apart may still have an
/// accuracy that looks well, when one class is common.
fn no_better_than_chance(
    labels: &[String],
    judged: &[Judged<'_>],
    balanced: Estimate,
) -> Option<String> {
    let guessing = 1.0 / labels.len() as f64;
    let surest = judged.iter().flat_map(|image| image.probabilities).copied().fold(0.0, f32::max);
    if f64::from(surest) - guessing < FLAT {
        return Some(format!(
            "The model has learnt nothing: no test image is given a class with more than {:.0} %, \
             where guessing gives {:.0} %.",
            100.0 * surest,
            100.0 * guessing
        ));
    }
    let answers: BTreeSet<usize> = judged.iter().map(|image| top(image.probabilities)).collect();
    if let (Some(only), 1) = (answers.first(), answers.len()) {
        let label = labels.get(*only).map_or("", String::as_str);
        return Some(format!(
            "Every test image was called {label:?}: the model tells nothing apart."
        ));
    }
    // The metric is a mean over the classes that are there.
    let there = judged.iter().map(|image| image.truth).collect::<BTreeSet<_>>().len();
    let chance = 1.0 / there.max(1) as f64;
    (there > 1 && balanced.low <= chance).then(|| {
        format!(
            "The balanced accuracy is not shown to be above {chance:.2}, which guessing reaches: \
             its interval begins at {:.2}.",
            balanced.low
        )
    })
}

/// The most probable class, the first of equals.
fn top(probabilities: &[f32]) -> usize {
    let mut best = 0;
    for (class, probability) in probabilities.iter().enumerate() {
        if *probability > probabilities[best] {
            best = class;
        }
    }
    best
}

fn notices(
    labels: &[String],
    judged: &[Judged<'_>],
    sample: &Sample,
    balanced: Estimate,
) -> Vec<String> {
    let mut notices = Vec::new();
    let mut few = Vec::new();
    for (class, label) in labels.iter().enumerate() {
        let of_class = judged.iter().filter(|image| image.truth == class);
        match of_class.map(|image| image.patient).collect::<BTreeSet<_>>().len() {
            0 => notices.push(format!(
                "No test image is of class {label:?}: nothing is known of how well it is found."
            )),
            1 => {
                notices.push(format!("The test images of class {label:?} are all of one patient."));
            }
            patients if patients < FEW_PATIENTS => few.push(format!("{label:?} of {patients}")),
            _ => {}
        }
    }
    if !few.is_empty() {
        notices.push(format!(
            "The test images of some classes are of few patients (class {}): intervals from fewer \
             than {FEW_PATIENTS} patients of a class say little.",
            few.join(", ")
        ));
    }
    notices.extend(no_better_than_chance(labels, judged, balanced));
    if sample.scores.macro_auroc.is_none() {
        notices.push(
            "The test images are all of one class: no area under a curve is defined.".to_owned(),
        );
    }
    if sample.draws.is_empty() {
        notices.push("Intervals were not computed: they show the value alone.".to_owned());
    }
    let undefined = sample.draws.iter().filter(|draw| draw.macro_auroc.is_none()).count();
    let many = MANY_UNDEFINED * sample.draws.len() as f64;
    if sample.scores.macro_auroc.is_some() && undefined as f64 > many {
        notices.push(format!(
            "In {undefined} of {} resamples all images were of one class; the intervals of the \
             areas under the curves leave them out.",
            sample.draws.len()
        ));
    }
    notices
}
