//! From the settings of a recipe to the optimiser, its groups and its schedule.

use crate::domain::Architecture;
use crate::domain::pretrain::{Learning, Pace};
use crate::domain::training::{Optimiser, Schedule as Asked, Training};
use crate::nn::optim::{Groups, Kind, Plateau, Schedule, Settings};

/// The part of the learning rate that a fall leaves.
const FALL: f64 = 0.1;

/// The settings of the optimiser.
pub(in crate::training) fn rule(training: &Training) -> Settings {
    settings(training.optimiser, training.weight_decay)
}

/// The settings of an optimiser with a weight decay.
pub(in crate::training) fn settings(optimiser: Optimiser, weight_decay: f64) -> Settings {
    let kind = match optimiser {
        Optimiser::AdamW => Kind::AdamW,
        Optimiser::Adam => Kind::Adam,
        Optimiser::Sgd => Kind::Sgd,
    };
    Settings { kind, weight_decay, ..Settings::default() }
}

/// The groups of parameters, by how fast each learns.
pub(in crate::training) fn groups(training: &Training, architecture: Architecture) -> Groups {
    if training.layer_decay < 1.0 {
        Groups::layerwise(architecture, training.layer_decay)
    } else {
        Groups::uniform()
    }
}

/// The course of the learning rate over `steps` steps.
pub(in crate::training) fn schedule(training: &Training, steps: u64) -> Schedule {
    match training.schedule {
        Asked::Cosine => Schedule::Cosine { warmup: training.warmup },
        Asked::Constant => Schedule::Constant,
        Asked::Step => Schedule::Step { every: steps.div_ceil(3), factor: FALL },
        Asked::Plateau => Schedule::Plateau(Plateau::new(FALL, training.plateau_patience)),
    }
}

/// The course of the learning rate over `steps` steps: halved after equal parts of them, as often as
/// is asked, or along a cosine.
pub(in crate::training) fn pace(learning: &Learning, steps: u64) -> Schedule {
    match learning.schedule {
        Pace::Halving => {
            let parts = u64::from(learning.halvings) + 1;
            Schedule::Step { every: steps.div_ceil(parts), factor: 0.5 }
        }
        Pace::Cosine => Schedule::Cosine { warmup: learning.warmup },
    }
}

#[cfg(test)]
mod tests {
    use super::pace;
    use crate::domain::pretrain::{Learning, Pace};

    #[test]
    fn the_rate_is_halved_so_often_after_equal_parts() {
        let learning = Learning { halvings: 4, ..Learning::default() };
        let rates: Vec<f64> =
            (0..100).map(|step| pace(&learning, 100).rate(step, 100, 2e-3)).collect();

        for (part, rates) in rates.chunks(20).enumerate() {
            let expected = 2e-3 * 0.5_f64.powi(part as i32);
            assert!(rates.iter().all(|rate| (rate - expected).abs() < 1e-15), "{part}: {rates:?}");
        }
        let never = Learning { halvings: 0, ..Learning::default() };
        assert_eq!(pace(&never, 7).rate(6, 7, 0.5), 0.5);
        let cosine = Learning { schedule: Pace::Cosine, ..Learning::default() };
        assert!(pace(&cosine, 100).rate(99, 100, 1.0) < 1e-3);
    }
}
