//! From the settings of a recipe to the optimiser, its groups and its schedule.

use crate::domain::Architecture;
use crate::domain::training::{Optimiser, Schedule as Asked, Training};
use crate::nn::optim::{Groups, Kind, Plateau, Schedule, Settings};

/// What a fall of the learning rate leaves of it.
const FALL: f64 = 0.1;

/// The settings of the optimiser.
pub(super) fn rule(training: &Training) -> Settings {
    settings(training.optimiser, training.weight_decay)
}

/// The settings of an optimiser with a weight decay.
pub(super) fn settings(optimiser: Optimiser, weight_decay: f64) -> Settings {
    let kind = match optimiser {
        Optimiser::AdamW => Kind::AdamW,
        Optimiser::Adam => Kind::Adam,
        Optimiser::Sgd => Kind::Sgd,
    };
    Settings { kind, weight_decay, ..Settings::default() }
}

/// How fast each parameter learns.
pub(super) fn groups(training: &Training, architecture: Architecture) -> Groups {
    if training.layer_decay < 1.0 {
        Groups::layerwise(architecture, training.layer_decay)
    } else {
        Groups::uniform()
    }
}

/// How the learning rate goes over `steps` steps.
pub(super) fn schedule(training: &Training, steps: u64) -> Schedule {
    match training.schedule {
        Asked::Cosine => Schedule::Cosine { warmup: training.warmup },
        Asked::Constant => Schedule::Constant,
        Asked::Step => Schedule::Step { every: steps.div_ceil(3), factor: FALL },
        Asked::Plateau => Schedule::Plateau(Plateau::new(FALL, training.plateau_patience)),
    }
}
