//! A fitted head, how it was fitted, and why none could be.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use super::logistic::softmax;
use crate::domain::HeadRule;

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

/// A fitted probe, and how it was chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Probe {
    /// The classifier.
    pub head: Head,
    /// The facts on how it was fitted.
    pub facts: HeadFacts,
    /// Every penalty `λ` tried, strongest first, with the mean log loss (nats) of held-out images; at
    /// the best temperature of each but by the former rule.
    pub candidates: Vec<(f64, f64)>,
}

/// The facts on how a head was fitted: what its card says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeadFacts {
    /// The rule; none for the one of recipes that name none.
    pub rule: Option<HeadRule>,
    /// The parts that it is the mean of, in logits; a regression counts as much as two discriminants.
    pub parts: Vec<Part>,
    /// The temperature `T` by which the mean of the parts was divided; 1 for a single part, whose own
    /// says all.
    pub temperature: f64,
    /// Folds of the cross-validation; zero when no patient could be held out.
    pub folds: usize,
    /// Mean log loss (nats) of held-out images at the head's own temperature, by which repeats compare;
    /// none by the former rule and where nobody could be held out.
    pub loss: Option<f64>,
    /// Macro AUROC of the held-out images; none where it was not computed or is not defined.
    #[serde(default)]
    pub auroc: Option<f64>,
    /// The notices that a reader should have about the choice.
    pub notices: Vec<String>,
}

/// One classifier that a head is the mean of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Logistic regression or discriminant.
    pub classifier: Classifier,
    /// Whether features were standardised, or only centred.
    pub standardised: bool,
    /// The temperature `T` by which its logits were divided.
    pub temperature: f64,
    /// Of a logistic regression: the penalty `λ`. Of a discriminant: the shrinkage, 0 to 1.
    pub regularisation: f64,
}

impl Part {
    /// A logistic regression of standardised features.
    pub(super) fn logistic(regularisation: f64, temperature: f64) -> Self {
        Self { classifier: Classifier::Logistic, standardised: true, temperature, regularisation }
    }
}

/// The kind of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Classifier {
    /// Multinomial logistic regression.
    Logistic,
    /// Linear discriminant analysis.
    Lda,
}

/// The reason why no probe was fitted.
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

/// Tells of a step that is done; fails where the observer breaks off.
pub(super) fn tell(
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
