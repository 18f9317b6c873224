//! Heads whose certainty is fitted to held-out patients: a logistic regression, a discriminant, and the
//! mean of both.

use rayon::prelude::*;

use super::discriminant::fit as analyse;
use super::head::{Classifier, HeadFacts, Observe, Part, Probe, ProbeError, tell};
use super::logistic::{Solution, softmax};
use super::regression::{DEFAULT, Path, penalties, solve};
use super::standardise::Scale;
use super::task::{Fold, Task};
use super::temper::{Tempered, temper};
use crate::domain::HeadRule;
use crate::training::judge::metrics::{Judged, Scorer};

/// Steps of a discriminant in the progress.
const DISCRIMINANT: usize = 1;

/// The weight of the regression in the mean, where either discriminant counts once: discriminants are
/// steadier with few images, a regression learns more of many.
const REGRESSION: u32 = 2;

/// One classifier over everything, and what it said of each image while that was held out.
struct Member {
    part: Part,
    /// Of raw features, at its temperature.
    solution: Solution,
    /// Of the held-out images of all folds, at its temperature.
    logits: Vec<Vec<f64>>,
}

/// Fits a head: each part by the rule, its logits divided by the temperature at which held-out
/// patients' images have the least loss; then the mean of the parts, with a temperature likewise.
pub(super) fn fit(
    task: &Task<'_>,
    rule: HeadRule,
    observe: &mut Observe<'_>,
) -> Result<Probe, ProbeError> {
    if task.division.count == 0 {
        return unchecked(task, rule, observe);
    }
    let penalties = penalties(&task.scale()).len();
    let (regressions, discriminants): (usize, &[bool]) = match rule {
        HeadRule::Auto => (penalties, &[false, true]),
        HeadRule::Logistic => (penalties, &[]),
        HeadRule::Lda => (0, &[false]),
    };
    let total = regressions + DISCRIMINANT * discriminants.len() + 1;
    tell(observe, 0, total, None)?;
    let (mut members, mut candidates) = (Vec::new(), Vec::new());
    if regressions > 0 {
        let (member, tried) = regression(task, total, observe)?;
        members.push(member);
        candidates = tried;
    }
    for (at, standardised) in discriminants.iter().enumerate() {
        let (member, loss) = discriminant(task, *standardised);
        members.push(member);
        // The curve is that of the penalties where there are any.
        let told = (regressions == 0).then_some(loss);
        tell(observe, regressions + DISCRIMINANT * (at + 1), total, told)?;
    }
    let labels = held_out_labels(task);
    let (solution, temperature, tempered) = together(&members, &labels);
    tell(observe, total, total, None)?;
    let facts = HeadFacts {
        rule: Some(rule),
        parts: members.into_iter().map(|member| member.part).collect(),
        temperature,
        folds: task.division.count,
        loss: Some(tempered.loss),
        auroc: tempered.auroc,
        notices: task.division.notices.clone(),
    };
    Ok(Probe { head: task.head(&solution), facts, candidates })
}

/// The regression with the middle penalty: where nothing can be held out nothing can be chosen.
fn unchecked(
    task: &Task<'_>,
    rule: HeadRule,
    observe: &mut Observe<'_>,
) -> Result<Probe, ProbeError> {
    tell(observe, 0, 1, None)?;
    let scale = task.scale().floored();
    let lambda = penalties(&scale)[DEFAULT];
    let rows = scale.apply(task.features());
    let solution = scale.fold_into(&solve(&rows, &task.labels, task.classes, lambda));
    tell(observe, 1, 1, None)?;
    let facts = HeadFacts {
        rule: Some(rule),
        parts: vec![Part::logistic(lambda, 1.0)],
        temperature: 1.0,
        folds: 0,
        loss: None,
        auroc: None,
        notices: task.division.notices.clone(),
    };
    Ok(Probe { head: task.head(&solution), facts, candidates: Vec::new() })
}

/// The logistic regression under the penalty with the least loss at its best temperature; a tie goes to
/// the stronger penalty. Every penalty with its loss.
fn regression(
    task: &Task<'_>,
    total: usize,
    observe: &mut Observe<'_>,
) -> Result<(Member, Vec<(f64, f64)>), ProbeError> {
    let scale = task.scale().floored();
    let mut path = Path::new(task.folds(Scale::floored), task.classes);
    let labels: Vec<usize> = path.labels().flatten().copied().collect();
    let mut candidates = Vec::new();
    let mut best: Option<(f64, Tempered, Vec<Vec<f64>>)> = None;
    for (at, lambda) in penalties(&scale).into_iter().enumerate() {
        let logits: Vec<Vec<f64>> = path.logits(lambda).into_iter().flatten().collect();
        let tempered = temper(&logits, &labels);
        candidates.push((lambda, tempered.loss));
        if best.as_ref().is_none_or(|(_, best, _)| tempered.loss < best.loss) {
            best = Some((lambda, tempered, logits));
        }
        tell(observe, at + 1, total, Some(tempered.loss))?;
    }
    drop(path);
    let Some((lambda, tempered, logits)) = best else { return Err(ProbeError::Cancelled) };
    let rows = scale.apply(task.features());
    let solution = solve(&rows, &task.labels, task.classes, lambda);
    let part = Part::logistic(lambda, 1.0 / tempered.factor);
    Ok((member(part, scale.fold_into(&solution), logits, tempered.factor), candidates))
}

/// The discriminant of standardised features, or of features as they are, and its loss.
fn discriminant(task: &Task<'_>, standardised: bool) -> (Member, f64) {
    let adapt = if standardised { Scale::floored } else { Scale::centred };
    let classes = task.classes;
    let folds = task.folds(adapt);
    let labels: Vec<usize> = folds.iter().flat_map(|fold| &fold.held_out_labels).copied().collect();
    let of = |fold: Fold| -> Vec<Vec<f64>> {
        let found = analyse(&fold.rows, &fold.labels, classes, fold.varying);
        fold.held_out.iter().map(|row| found.solution.logits(row)).collect()
    };
    let logits: Vec<Vec<Vec<f64>>> = folds.into_par_iter().map(of).collect();
    let logits: Vec<Vec<f64>> = logits.into_iter().flatten().collect();
    let tempered = temper(&logits, &labels);
    let scale = task.scale();
    let varying = scale.varying();
    let scale = adapt(scale);
    let rows = scale.apply(task.features());
    let found = analyse(&rows, &task.labels, classes, varying);
    let part = Part {
        classifier: Classifier::Lda,
        standardised,
        temperature: 1.0 / tempered.factor,
        regularisation: found.shrinkage,
    };
    let member = member(part, scale.fold_into(&found.solution), logits, tempered.factor);
    (member, tempered.loss)
}

impl Member {
    fn weight(&self) -> u32 {
        match self.part.classifier {
            Classifier::Logistic => REGRESSION,
            Classifier::Lda => 1,
        }
    }
}

fn member(part: Part, solution: Solution, mut logits: Vec<Vec<f64>>, factor: f64) -> Member {
    logits.iter_mut().flatten().for_each(|logit| *logit *= factor);
    Member { part, solution: solution.scaled(factor), logits }
}

/// The mean of the members, the temperature by which it was divided (1 of a single one), and its loss.
fn together(members: &[Member], labels: &[usize]) -> (Solution, f64, HeldOut) {
    let total: u32 = members.iter().map(Member::weight).sum();
    let share = |member: &Member| f64::from(member.weight()) / f64::from(total);
    let shares: Vec<Solution> =
        members.iter().map(|member| member.solution.clone().scaled(share(member))).collect();
    let mean = Solution::sum(&shares).unwrap_or_else(|| Solution::zero(0, 0));
    if let [only] = members {
        let loss = temper(&only.logits, labels).loss;
        return (mean, 1.0, HeldOut { loss, auroc: auroc(&only.logits, labels) });
    }
    let mut logits = vec![Vec::new(); labels.len()];
    for (at, row) in logits.iter_mut().enumerate() {
        for member in members {
            let of_member = &member.logits[at];
            row.resize(of_member.len(), 0.0);
            for (sum, logit) in row.iter_mut().zip(of_member) {
                *sum += share(member) * logit;
            }
        }
    }
    let tempered = temper(&logits, labels);
    let held_out = HeldOut { loss: tempered.loss, auroc: auroc(&logits, labels) };
    (mean.scaled(tempered.factor), 1.0 / tempered.factor, held_out)
}

/// The answers of a head for images while they are held out.
struct HeldOut {
    loss: f64,
    auroc: Option<f64>,
}

/// The macro AUROC of logits, which no temperature changes by much.
fn auroc(logits: &[Vec<f64>], labels: &[usize]) -> Option<f64> {
    let classes = logits.first().map_or(0, Vec::len);
    let probabilities: Vec<Vec<f32>> = logits
        .iter()
        .map(|row| {
            let mut row = row.clone();
            softmax(&mut row);
            row.into_iter().map(|probability| probability as f32).collect()
        })
        .collect();
    let judged: Vec<Judged<'_>> = probabilities
        .iter()
        .zip(labels)
        .map(|(probabilities, truth)| Judged { truth: *truth, probabilities, patient: "" })
        .collect();
    let scorer = Scorer::new(&judged, classes).ok()?;
    scorer.score(&vec![1; judged.len()]).macro_auroc
}

/// Classes of the held-out images in the order of the folds.
fn held_out_labels(task: &Task<'_>) -> Vec<usize> {
    let of_fold = |fold| {
        let images = task.labels.iter().zip(&task.division.held_out);
        images.filter(move |(_, of)| **of == Some(fold)).map(|(label, _)| *label)
    };
    (0..task.division.count).flat_map(of_fold).collect()
}
