//! Logistic regressions under a row of penalties, on folds and on everything.

use rayon::prelude::*;

use super::lbfgs::Stop;
use super::logistic::{Problem, Solution};
use super::matrix::Rows;
use super::span::Span;
use super::standardise::Scale;
use super::task::Fold;

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
/// The penalty that is used when nothing can be held out: its middle.
pub(super) const DEFAULT: usize = 4;

/// While choosing: the losses compared differ by far more than this.
const ROUGH: Stop = Stop { gradient: 1e-5, iterations: 300 };
/// For the probe that is kept.
const FINE: Stop = Stop { gradient: 1e-7, iterations: 2000 };

/// The penalties `λ` tried under a scale, strongest first.
pub(super) fn penalties(scale: &Scale) -> [f64; 9] {
    GRID.map(|step| step * scale.varying().max(1) as f64)
}

/// Folds, each with its last solution, from which the next penalty starts.
pub(super) struct Path {
    folds: Vec<(Fold, Option<Solution>)>,
    classes: usize,
}

impl Path {
    /// At its start.
    pub(super) fn new(folds: Vec<Fold>, classes: usize) -> Self {
        Self { folds: folds.into_iter().map(|fold| (fold, None)).collect(), classes }
    }

    /// Logits of the held-out images of each fold under the penalty.
    pub(super) fn logits(&mut self, lambda: f64) -> Vec<Vec<Vec<f64>>> {
        let classes = self.classes;
        let of = |(fold, last): &mut (Fold, Option<Solution>)| {
            let problem = Problem { rows: &fold.rows, labels: &fold.labels, classes, lambda };
            let solution = problem.solve(last.as_ref(), ROUGH);
            let logits = fold.held_out.iter().map(|row| solution.logits(row)).collect();
            *last = Some(solution);
            logits
        };
        self.folds.par_iter_mut().map(of).collect()
    }

    /// Classes of the held-out images of each fold.
    pub(super) fn labels(&self) -> impl Iterator<Item = &[usize]> {
        self.folds.iter().map(|(fold, _)| fold.held_out_labels.as_slice())
    }
}

/// The solution over everything.
pub(super) fn solve(rows: &Rows, labels: &[usize], classes: usize, lambda: f64) -> Solution {
    let solve = |rows| Problem { rows, labels, classes, lambda }.solve(None, FINE);
    if !Span::pays(rows) {
        return solve(rows);
    }
    let (span, seen) = Span::of(rows);
    span.lift(&solve(&seen))
}
