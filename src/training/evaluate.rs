//! The evaluation of a model on held-out images: every metric with its interval, and what a reader
//! must know before believing them.

use std::collections::BTreeSet;

use super::bootstrap::{estimate, resample};
use super::metrics::{CannotJudge, Judged, Scorer, Scores};
use crate::domain::evaluation::{Estimate, Evaluation};

/// Patients below which a percentile interval is known to be too narrow.
const FEW_PATIENTS: usize = 10;
/// Share of resamples without a defined metric above which a reader is told.
const MANY_UNDEFINED: f64 = 0.05;

/// Evaluates predictions over the classes `labels`, with intervals from `resamples` draws of
/// patients seeded by `seed`.
///
/// A resample in which a metric is not defined (no class with images both in and out of it) does
/// not count for that metric.
pub fn evaluate(
    labels: &[String],
    judged: &[Judged<'_>],
    resamples: u32,
    seed: u64,
) -> Result<Evaluation, CannotJudge> {
    let scorer = Scorer::new(judged, labels.len())?;
    let patients: Vec<&str> = judged.iter().map(|image| image.patient).collect();
    let once = vec![1; judged.len()];
    let scores = scorer.score(&once);
    let draws = resample(&scorer, &patients, resamples, seed);

    let with_interval =
        |metric: fn(&Scores) -> f64| estimate(metric(&scores), draws.iter().map(metric).collect());
    let where_defined = |metric: fn(&Scores) -> Option<f64>| -> Option<Estimate> {
        Some(estimate(metric(&scores)?, draws.iter().filter_map(metric).collect()))
    };
    Ok(Evaluation {
        labels: labels.to_vec(),
        images: judged.len() as u64,
        patients: BTreeSet::from_iter(&patients).len() as u64,
        accuracy: with_interval(|scores| scores.accuracy),
        balanced_accuracy: with_interval(|scores| scores.balanced_accuracy),
        macro_auroc: where_defined(|scores| scores.macro_auroc),
        macro_auprc: where_defined(|scores| scores.macro_auprc),
        macro_f1: with_interval(|scores| scores.macro_f1),
        brier: with_interval(|scores| scores.brier),
        ece: with_interval(|scores| scores.ece),
        confusion: scorer.confusion(&once),
        resamples,
        repeats: None,
        notices: notices(labels, judged, &scores, &draws),
    })
}

/// What a reader must not overlook: a model that tells nothing apart may still have an accuracy
/// that looks well, when one class is common.
fn no_better_than_chance(
    labels: &[String],
    judged: &[Judged<'_>],
    scores: &Scores,
    draws: &[Scores],
) -> Option<String> {
    let answers: BTreeSet<usize> = judged.iter().map(|image| top(image.probabilities)).collect();
    if let (Some(only), 1) = (answers.first(), answers.len()) {
        let label = labels.get(*only).map_or("", String::as_str);
        return Some(format!(
            "Every test image was called {label:?}: the model tells nothing apart."
        ));
    }
    let chance = 1.0 / labels.len() as f64;
    let balanced = estimate(
        scores.balanced_accuracy,
        draws.iter().map(|draw| draw.balanced_accuracy).collect(),
    );
    (balanced.low <= chance).then(|| {
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
    scores: &Scores,
    draws: &[Scores],
) -> Vec<String> {
    let mut notices = Vec::new();
    for (class, label) in labels.iter().enumerate() {
        let of_class = judged.iter().filter(|image| image.truth == class);
        match of_class.map(|image| image.patient).collect::<BTreeSet<_>>().len() {
            0 => notices.push(format!(
                "No test image is of class {label:?}: nothing is known of how well it is found."
            )),
            1 => {
                notices.push(format!("The test images of class {label:?} are all of one patient."));
            }
            _ => {}
        }
    }
    notices.extend(no_better_than_chance(labels, judged, scores, draws));
    if scores.macro_auroc.is_none() {
        notices.push(
            "The test images are all of one class: no area under a curve is defined.".to_owned(),
        );
    }
    let patients = judged.iter().map(|image| image.patient).collect::<BTreeSet<_>>().len();
    if patients < FEW_PATIENTS {
        notices.push(format!(
            "The test split has {patients} patient(s): intervals from fewer than {FEW_PATIENTS} are \
             too narrow."
        ));
    }
    if draws.is_empty() {
        notices.push("Intervals were not computed: they show the value alone.".to_owned());
    }
    let undefined = draws.iter().filter(|draw| draw.macro_auroc.is_none()).count();
    if scores.macro_auroc.is_some() && undefined as f64 > MANY_UNDEFINED * draws.len() as f64 {
        notices.push(format!(
            "In {undefined} of {} resamples all images were of one class; the intervals of the \
             areas under the curves leave them out.",
            draws.len()
        ));
    }
    notices
}
