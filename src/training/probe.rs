//! The linear probe: a logistic regression on frozen features, its penalty chosen by
//! cross-validation over patients.

use std::ops::ControlFlow;

use rayon::prelude::*;

use super::folds::{Folds, divide};
use super::lbfgs::Stop;
use super::logistic::{Problem, Solution, softmax};
use super::matrix::Rows;
use super::span::Span;
use super::standardise::Scale;

/// Penalties tried, strongest first, as `λ/D` over the `D` features that vary: an image with
/// standardised features has length `√D`, so this makes the grid the same for every backbone.
/// Nine steps of ¾ of a decade, from all but no use of the features to all but no penalty.
const GRID: [f64; 9] = [
    1e1,
    1.778_279_410_038_923,
    3.162_277_660_168_379e-1,
    5.623_413_251_903_491e-2,
    1e-2,
    1.778_279_410_038_923e-3,
    3.162_277_660_168_379e-4,
    5.623_413_251_903_491e-5,
    1e-5,
];
/// The penalty of the grid that is used when nothing can be held out: its middle.
const DEFAULT: usize = 4;

/// While choosing: the losses compared differ by far more than this.
const ROUGH: Stop = Stop { gradient: 1e-5, iterations: 300 };
/// For the probe that is kept.
const FINE: Stop = Stop { gradient: 1e-7, iterations: 2000 };

/// One training image.
#[derive(Debug, Clone, Copy)]
pub struct Sample<'a> {
    /// The backbone's features, `[D]`.
    pub features: &'a [f32],
    /// Index of its class.
    pub label: usize,
    /// Key of its patient.
    pub patient: &'a str,
}

/// A linear classifier of raw features: `logits = W f + b`.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// `W` `[K, D]`, row by row.
    pub weight: Vec<f32>,
    /// `b` `[K]`.
    pub bias: Vec<f32>,
    /// `D`.
    pub dimensions: usize,
}

impl Head {
    /// `softmax(W f + b)`, `[K]`.
    pub fn probabilities(&self, features: &[f32]) -> Vec<f32> {
        let mut logits: Vec<f64> = self.bias.iter().map(|bias| f64::from(*bias)).collect();
        for (logit, weight) in logits.iter_mut().zip(self.weight.chunks(self.dimensions.max(1))) {
            let products = weight.iter().zip(features);
            *logit += products.map(|(w, f)| f64::from(*w) * f64::from(*f)).sum::<f64>();
        }
        softmax(&mut logits);
        logits.into_iter().map(|probability| probability as f32).collect()
    }
}

/// A fitted probe, and how its penalty was chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Probe {
    /// The classifier.
    pub head: Head,
    /// The penalty `λ` on standardised features that was used.
    pub regularisation: f64,
    /// Every penalty `λ` tried, strongest first, with the mean log loss (nats) of held-out images.
    pub candidates: Vec<(f64, f64)>,
    /// Folds of the cross-validation; zero when no patient could be held out.
    pub folds: usize,
    /// What a reader should know about the choice.
    pub notices: Vec<String>,
}

/// Why no probe was fitted.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ProbeError {
    /// Fewer than two classes.
    #[error("a probe needs at least two classes, not {classes}")]
    OneClass {
        /// Classes given.
        classes: usize,
    },
    /// A class without images has no minimum.
    #[error("class number {class} has no training image")]
    EmptyClass {
        /// Index of the class.
        class: usize,
    },
    /// An image of a class that is not there.
    #[error("training image {sample} is of class number {label}; there are {classes} classes")]
    UnknownClass {
        /// Index of the image.
        sample: usize,
        /// Its class.
        label: usize,
        /// Classes there are.
        classes: usize,
    },
    /// Features of several lengths.
    #[error("training image {sample} has {found} features, the first one has {expected}")]
    UnevenFeatures {
        /// Index of the image.
        sample: usize,
        /// Features it has.
        found: usize,
        /// Features of the first image.
        expected: usize,
    },
    /// A feature that is infinite or not a number.
    #[error("training image {sample} has a feature that is not a finite number")]
    NotFinite {
        /// Index of the image.
        sample: usize,
    },
    /// The observer asked to stop.
    #[error("the fit was cancelled")]
    Cancelled,
}

/// Told after each finished step: steps done, steps in all, and the cross-validated loss when the
/// step was a candidate. Breaking cancels the fit.
pub type Observe<'a> = dyn FnMut(usize, usize, Option<f64>) -> ControlFlow<()> + 'a;

/// Fits a probe: standardises the features, chooses the penalty by the mean log loss of held-out
/// patients' images, refits on all images and folds the standardisation into the head.
///
/// Each fold is standardised by its own training images. The lowest loss wins, a tie goes to the
/// stronger penalty; the one-standard-error rule is not used, since with few patients it would
/// nearly always return the strongest penalty. Folds are fitted side by side on the current rayon
/// pool, each on one thread, so that the result does not depend on the number of threads.
pub fn fit(
    samples: &[Sample<'_>],
    classes: usize,
    seed: u64,
    observe: &mut Observe<'_>,
) -> Result<Probe, ProbeError> {
    let dimensions = check(samples, classes)?;
    let everything = || samples.iter().map(|sample| sample.features);
    let labels: Vec<usize> = samples.iter().map(|sample| sample.label).collect();
    let scale = Scale::of(everything(), dimensions);
    let lambdas = GRID.map(|step| step * scale.varying().max(1) as f64);

    let images: Vec<(usize, &str)> = samples.iter().map(|s| (s.label, s.patient)).collect();
    let division = divide(&images, classes, seed);
    let tried = if division.count == 0 { 0 } else { lambdas.len() };
    let total = tried + 1;
    tell(observe, 0, total, None)?;
    let mut folds: Vec<Fold> = (0..division.count)
        .into_par_iter()
        .map(|fold| Fold::new(samples, &division, fold, dimensions, classes))
        .collect();
    let mut candidates = Vec::with_capacity(tried);
    for (at, lambda) in lambdas.into_iter().take(tried).enumerate() {
        let losses: Vec<f64> = folds.par_iter_mut().map(|fold| fold.loss(lambda)).collect();
        let held_out: usize = folds.iter().map(|fold| fold.held_out.count()).sum();
        let loss = losses.iter().sum::<f64>() / held_out as f64;
        candidates.push((lambda, loss));
        tell(observe, at + 1, total, Some(loss))?;
    }
    drop(folds);

    let regularisation = best(&candidates).unwrap_or(lambdas[DEFAULT]);
    let rows = scale.apply(everything());
    let solution = solve_all(&rows, &labels, classes, regularisation);
    tell(observe, total, total, None)?;
    let head = head(&scale.fold_into(&solution), classes, dimensions);
    Ok(Probe { head, regularisation, candidates, folds: division.count, notices: division.notices })
}

/// One fold: what it is trained on and what it is judged by, and its last solution, from which the
/// next penalty starts.
struct Fold {
    rows: Rows,
    labels: Vec<usize>,
    held_out: Rows,
    held_out_labels: Vec<usize>,
    classes: usize,
    solution: Option<Solution>,
}

impl Fold {
    fn new(
        samples: &[Sample<'_>],
        division: &Folds,
        fold: usize,
        dimensions: usize,
        classes: usize,
    ) -> Self {
        let part = |held_out: bool| {
            let images = samples.iter().zip(&division.held_out);
            images.filter(move |(_, of)| (**of == Some(fold)) == held_out).map(|(sample, _)| sample)
        };
        let labels = |held_out| part(held_out).map(|sample| sample.label).collect();
        let scale = Scale::of(part(false).map(|sample| sample.features), dimensions);
        let mut rows = scale.apply(part(false).map(|sample| sample.features));
        let mut held_out = scale.apply(part(true).map(|sample| sample.features));
        if Span::pays(&rows) {
            let (span, seen) = Span::of(&rows);
            (rows, held_out) = (seen, span.coordinates(&held_out));
        }
        Self {
            rows,
            labels: labels(false),
            held_out,
            held_out_labels: labels(true),
            classes,
            solution: None,
        }
    }

    /// Total log loss of the held-out images under the penalty.
    fn loss(&mut self, lambda: f64) -> f64 {
        let problem =
            Problem { rows: &self.rows, labels: &self.labels, classes: self.classes, lambda };
        let solution = problem.solve(self.solution.as_ref(), ROUGH);
        let judged = self.held_out.iter().zip(&self.held_out_labels);
        let loss = judged.map(|(row, label)| solution.log_loss(row, *label)).sum();
        self.solution = Some(solution);
        loss
    }
}

fn solve_all(rows: &Rows, labels: &[usize], classes: usize, lambda: f64) -> Solution {
    let solve = |rows| Problem { rows, labels, classes, lambda }.solve(None, FINE);
    if !Span::pays(rows) {
        return solve(rows);
    }
    let (span, seen) = Span::of(rows);
    span.lift(&solve(&seen))
}

fn best(candidates: &[(f64, f64)]) -> Option<f64> {
    let lowest = candidates.iter().min_by(|one, other| one.1.total_cmp(&other.1));
    lowest.map(|(lambda, _)| *lambda)
}

fn head(solution: &Solution, classes: usize, dimensions: usize) -> Head {
    let weight = (0..classes).flat_map(|class| solution.weight(class));
    Head {
        weight: weight.map(|value| *value as f32).collect(),
        bias: solution.bias().iter().map(|value| *value as f32).collect(),
        dimensions,
    }
}

fn tell(
    observe: &mut Observe<'_>,
    done: usize,
    total: usize,
    loss: Option<f64>,
) -> Result<(), ProbeError> {
    match observe(done, total, loss) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(ProbeError::Cancelled),
    }
}

/// The number of features, when everything is as it should be.
fn check(samples: &[Sample<'_>], classes: usize) -> Result<usize, ProbeError> {
    if classes < 2 {
        return Err(ProbeError::OneClass { classes });
    }
    let expected = samples.first().map_or(0, |sample| sample.features.len());
    let mut seen = vec![false; classes];
    for (at, sample) in samples.iter().enumerate() {
        let (label, found) = (sample.label, sample.features.len());
        if found != expected {
            return Err(ProbeError::UnevenFeatures { sample: at, found, expected });
        }
        if !sample.features.iter().all(|feature| feature.is_finite()) {
            return Err(ProbeError::NotFinite { sample: at });
        }
        match seen.get_mut(label) {
            Some(seen) => *seen = true,
            None => return Err(ProbeError::UnknownClass { sample: at, label, classes }),
        }
    }
    match seen.iter().position(|seen| !seen) {
        Some(class) => Err(ProbeError::EmptyClass { class }),
        None => Ok(expected),
    }
}
