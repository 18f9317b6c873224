//! The words that a recipe chooses between.

use serde::{Deserialize, Serialize};

/// What moves the weights.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Optimiser {
    /// Adam with decoupled weight decay.
    #[default]
    AdamW,
    /// Adam, its weight decay part of the gradient.
    Adam,
    /// Stochastic gradient descent with momentum 0.9.
    Sgd,
}

/// How the learning rate goes over the run.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// A linear rise over the warm-up share, then half a cosine down to 0.
    #[default]
    Cosine,
    /// The same throughout, without a warm-up.
    Constant,
    /// A tenth after each third of the steps, without a warm-up.
    Step,
    /// A tenth after more than `plateau_patience` epochs without a lower validation loss, without a
    /// warm-up.
    Plateau,
}

/// Which statistics batch normalisation uses while training.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Statistics {
    /// Frozen below 256 training images, else those of the batch.
    #[default]
    Auto,
    /// The pretrained ones, unchanged.
    Frozen,
    /// Those of the batch; the running ones follow.
    Train,
}

/// What the best epoch, and the best of several repeats, is chosen by.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Selection {
    /// The lowest cross-entropy on the validation images.
    #[default]
    Loss,
    /// The highest share of validation images named correctly.
    Accuracy,
    /// The highest macro AUROC on the validation images.
    Auroc,
}
