//! The images that a head is fitted to, and the same as each fold of a cross-validation sees it.

use rayon::prelude::*;

use super::folds::{Folds, divide};
use super::head::{Head, ProbeError, Sample};
use super::logistic::Solution;
use super::matrix::Rows;
use super::span::Span;
use super::standardise::Scale;

/// Checked training images and their division into folds.
pub(super) struct Task<'a> {
    samples: &'a [Sample<'a>],
    /// Class of each image.
    pub(super) labels: Vec<usize>,
    /// `K`.
    pub(super) classes: usize,
    /// `D`.
    pub(super) dimensions: usize,
    pub(super) division: Folds,
}

/// One fold under one scale: what is learnt from, and what is judged, in the span of the former where
/// that pays.
pub(super) struct Fold {
    pub(super) rows: Rows,
    pub(super) labels: Vec<usize>,
    pub(super) held_out: Rows,
    pub(super) held_out_labels: Vec<usize>,
    /// Features that vary among the images learnt from.
    pub(super) varying: usize,
}

impl<'a> Task<'a> {
    /// Checks the images and divides them.
    pub(super) fn new(
        samples: &'a [Sample<'a>],
        classes: usize,
        seed: u64,
    ) -> Result<Self, ProbeError> {
        let dimensions = check(samples, classes)?;
        let images: Vec<(usize, &str)> = samples.iter().map(|s| (s.label, s.patient)).collect();
        Ok(Self {
            samples,
            labels: samples.iter().map(|sample| sample.label).collect(),
            classes,
            dimensions,
            division: divide(&images, classes, seed),
        })
    }

    /// The head that a solution on raw features is.
    pub(super) fn head(&self, solution: &Solution) -> Head {
        let weight = (0..self.classes).flat_map(|class| solution.weight(class));
        Head {
            weight: weight.map(|value| *value as f32).collect(),
            bias: solution.bias().iter().map(|value| *value as f32).collect(),
            dimensions: self.dimensions,
        }
    }

    /// Features of every image.
    pub(super) fn features(&self) -> impl Iterator<Item = &'a [f32]> + Clone {
        self.samples.iter().map(|sample| sample.features)
    }

    /// The scale of all images.
    pub(super) fn scale(&self) -> Scale {
        Scale::of(self.features(), self.dimensions)
    }

    /// Every fold, standardised by the images that it learns from, the scale changed by `adapt`. They
    /// are made side by side on the current rayon pool, each on one thread, so that what comes out does
    /// not depend on the number of threads.
    pub(super) fn folds(&self, adapt: impl Fn(Scale) -> Scale + Sync) -> Vec<Fold> {
        let folds = 0..self.division.count;
        folds.into_par_iter().map(|fold| self.fold(fold, &adapt)).collect()
    }

    fn fold(&self, fold: usize, adapt: &(impl Fn(Scale) -> Scale + Sync)) -> Fold {
        let part = |held_out: bool| {
            let images = self.samples.iter().zip(&self.division.held_out);
            images.filter(move |(_, of)| (**of == Some(fold)) == held_out).map(|(sample, _)| sample)
        };
        let labels = |held_out| part(held_out).map(|sample| sample.label).collect();
        let scale = Scale::of(part(false).map(|sample| sample.features), self.dimensions);
        let varying = scale.varying();
        let scale = adapt(scale);
        let mut rows = scale.apply(part(false).map(|sample| sample.features));
        let mut held_out = scale.apply(part(true).map(|sample| sample.features));
        if Span::pays(&rows) {
            let (span, seen) = Span::of(&rows);
            (rows, held_out) = (seen, span.coordinates(&held_out));
        }
        Fold { rows, labels: labels(false), held_out, held_out_labels: labels(true), varying }
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
