//! The results of an evaluation on held-out images, every number with its interval.

use serde::{Deserialize, Serialize};

use crate::domain::data::task::Task;

/// A metric with its 95 % interval over resampled patients.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Estimate {
    /// The value on the test split.
    pub value: f64,
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

/// The calibration error beside what chance alone would show: an error of few images is never near 0,
/// however honest the probabilities are, so that it has no interval but a test.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Calibration {
    /// The value on the test split.
    pub value: f64,
    /// Mean of what perfectly calibrated probabilities would show on as many images: labels drawn from
    /// the probabilities themselves. Absent in evaluations from before it was computed.
    #[serde(default)]
    pub by_chance: Option<f64>,
    /// What they would exceed once in twenty times: a value above it shows that certainty is misplaced.
    #[serde(default)]
    pub by_chance_95: Option<f64>,
}

/// The mean of a metric over repeats, with its interval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Spread {
    /// The value of each repeat, in their order.
    pub values: Vec<f64>,
    /// Their mean.
    pub mean: f64,
    /// Lower end of the 95 % t-interval of the mean: `mean - t s / √n` with the sample standard
    /// deviation `s` and Student's `t` of `n - 1` degrees of freedom.
    pub low: f64,
    /// Upper end of it.
    pub high: f64,
}

/// How the test result varies with the seed: the whole run repeated with other seeds, judged on the
/// same test images. The intervals of the evaluation beside it are of the published model alone,
/// over patients.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Repeats {
    /// The seed of each repeat.
    pub seeds: Vec<u64>,
    /// Which of them was published, from 0: of a probe the one with the least held-out loss, else the best
    /// on the validation images; the first one where nothing was held out.
    pub published: u32,
    /// Share of test images whose most probable class is the true one.
    pub accuracy: Spread,
    /// Mean over classes of recall.
    pub balanced_accuracy: Spread,
    /// Macro AUROC, where it is defined.
    pub macro_auroc: Option<Spread>,
}

/// What a simple classifier reaches on the same images, learning from the same ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Baseline {
    /// Its name: `pixels`, or `random` for the architecture with random weights.
    #[schema(example = "pixels")]
    pub name: String,
    /// What it is, as a clause.
    pub about: String,
    /// Mean over classes of recall.
    pub balanced_accuracy: Estimate,
    /// Macro AUROC, where it is defined.
    pub macro_auroc: Option<Estimate>,
    /// Mean negative log-likelihood of the true class, in nats.
    pub log_loss: Option<Estimate>,
}

impl Baseline {
    /// The description of it, for a sentence.
    pub fn clause(&self) -> String {
        let without = if self.name == "pixels" { "without any backbone, " } else { "" };
        format!("{without}{}", self.about)
    }
}

/// The evaluation of a model on the test split of a version, by the task of both.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "task", rename_all = "snake_case")]
pub enum Evaluation {
    /// Of a model that tells classes of images apart.
    Classification(ClassificationEvaluation),
}

impl Evaluation {
    /// The task that the model was judged by.
    pub fn task(&self) -> Task {
        match self {
            Self::Classification(_) => Task::Classification,
        }
    }
}

/// The evaluation of a model that tells classes of images apart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ClassificationEvaluation {
    /// Class labels, in the order of the confusion matrix and of the model's outputs.
    pub labels: Vec<String>,
    /// Test images.
    pub images: u64,
    /// Test patients, the units of the bootstrap.
    pub patients: u64,
    /// Share of images whose most probable class is the true one.
    pub accuracy: Estimate,
    /// Mean over classes of recall.
    pub balanced_accuracy: Estimate,
    /// Mean over classes of the one-vs-rest area under the ROC curve, ties counted half.
    /// Absent when no class has both positive and negative test images.
    pub macro_auroc: Option<Estimate>,
    /// Mean over classes of one-vs-rest average precision.
    pub macro_auprc: Option<Estimate>,
    /// Mean over classes of the F1 score.
    pub macro_f1: Estimate,
    /// Multi-class Brier score: mean squared distance of the probabilities from the one-hot truth, 0 to 2.
    pub brier: Estimate,
    /// Mean negative log-likelihood of the true class, in nats. Absent in evaluations from before it was
    /// computed.
    #[serde(default)]
    pub log_loss: Option<Estimate>,
    /// Expected calibration error of the top class over 15 equal-width bins.
    pub ece: Calibration,
    /// `confusion[truth][predicted]`, counts of images.
    pub confusion: Vec<Vec<u64>>,
    /// Bootstrap resamples behind the intervals.
    pub resamples: u32,
    /// The results of all repeats, of a run with several.
    #[serde(default)]
    pub repeats: Option<Repeats>,
    /// What is reached without the backbone. Empty in evaluations from before it was computed.
    #[serde(default)]
    pub baselines: Vec<Baseline>,
    /// What a reader must know: a class missing from the test split, few patients, ….
    pub notices: Vec<String>,
}
