//! Steps, rates, time and checkpoints of a pretraining run.

use serde::{Deserialize, Serialize};

use crate::domain::training::{BadSetting, Optimiser, outside};

/// How the learning rate goes over the run.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Pace {
    /// Halved `halvings` times, after equal parts of the steps (LVM-Med, section 4.1).
    #[default]
    Halving,
    /// A linear rise over the warm-up share, then half a cosine down to 0.
    Cosine,
}

/// Steps, rates and time of a pretraining run. From random weights, unless the objective asks for the
/// paper's settings, a request that leaves them out gets AdamW at 1e-3 with a decay of 0.01 and a cosine;
/// the defaults below are the paper's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Learning {
    /// Passes over the images, at most.
    #[schema(minimum = 1, maximum = 10000)]
    pub epochs: u32,
    /// Images in a batch: what losses and statistics are computed over. What remains of an epoch
    /// after whole batches is left out of it.
    #[schema(minimum = 2, maximum = 4096)]
    pub batch_size: u32,
    /// Batches whose gradients are averaged for one step of the optimiser.
    #[schema(minimum = 1, maximum = 1024)]
    pub accumulate: u32,
    /// What moves the weights: `adam`, `adamw` or `sgd`.
    pub optimiser: Optimiser,
    /// Peak learning rate.
    #[schema(minimum = 1e-9, maximum = 10.0)]
    pub learning_rate: f64,
    /// Weight decay of tensors with two or more dimensions.
    #[schema(minimum = 0.0, maximum = 1.0)]
    pub weight_decay: f64,
    /// How the learning rate goes over the run.
    pub schedule: Pace,
    /// `halving`: how often the rate is halved.
    #[schema(maximum = 20)]
    pub halvings: u32,
    /// `cosine`: share of all steps that warm the learning rate up.
    #[schema(minimum = 0.0, maximum = 1.0)]
    pub warmup: f64,
    /// Largest norm of all gradients together; longer ones are shortened to it. 0 leaves them.
    #[schema(minimum = 0.0, maximum = 1_000_000.0)]
    pub clip_norm: f64,
    /// Whether normalisation keeps the statistics of the backbone it started from.
    pub frozen_statistics: bool,
    /// Minutes of training, without the probes of a gate; the run then ends with what it has, of one
    /// step at least.
    #[schema(minimum = 0.001, maximum = 100_000.0)]
    pub max_minutes: Option<f64>,
    /// Seconds between two checkpoints within an epoch.
    #[schema(minimum = 1, maximum = 86400)]
    pub checkpoint_seconds: u32,
}

impl Default for Learning {
    fn default() -> Self {
        Self {
            epochs: 100,
            batch_size: 64,
            accumulate: 1,
            optimiser: Optimiser::Adam,
            learning_rate: 2e-3,
            weight_decay: 0.0,
            schedule: Pace::default(),
            halvings: 4,
            warmup: 0.1,
            clip_norm: 0.0,
            frozen_statistics: false,
            max_minutes: None,
            checkpoint_seconds: 60,
        }
    }
}

impl Learning {
    pub(super) fn validate(&self) -> Vec<BadSetting> {
        let whole = |number: u32| f64::from(number);
        let minutes = self.max_minutes.unwrap_or(1.0);
        outside(&[
            ("/learning/epochs", whole(self.epochs), 1.0, 1e4, "1 to 10000"),
            ("/learning/batch_size", whole(self.batch_size), 2.0, 4096.0, "2 to 4096"),
            ("/learning/accumulate", whole(self.accumulate), 1.0, 1024.0, "1 to 1024"),
            ("/learning/learning_rate", self.learning_rate, 1e-9, 10.0, "1e-9 to 10"),
            ("/learning/weight_decay", self.weight_decay, 0.0, 1.0, "0 to 1"),
            ("/learning/halvings", whole(self.halvings), 0.0, 20.0, "0 to 20"),
            ("/learning/warmup", self.warmup, 0.0, 1.0, "0 to 1"),
            ("/learning/clip_norm", self.clip_norm, 0.0, 1e6, "0 to 1000000"),
            ("/learning/max_minutes", minutes, 1e-3, 1e5, "0.001 to 100000"),
            (
                "/learning/checkpoint_seconds",
                whole(self.checkpoint_seconds),
                1.0,
                86400.0,
                "1 to 86400",
            ),
        ])
    }
}
