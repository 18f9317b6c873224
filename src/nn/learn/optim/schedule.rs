//! Learning-rate schedules.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

use super::plateau::Plateau;

/// The course of the learning rate over a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// The peak throughout.
    Constant,
    /// A linear rise, then half a cosine down to 0 (Loshchilov and Hutter 2017, without restarts).
    Cosine {
        /// Share of the steps that the rise takes.
        warmup: f64,
    },
    /// Multiplied by `factor` after every `every` steps.
    Step {
        /// Steps between two falls; 0 is taken as 1.
        every: u64,
        /// The part of the rate that each fall leaves.
        factor: f64,
    },
    /// Lower each time that the validation loss stops falling; the only one with a state.
    Plateau(Plateau),
}

impl Schedule {
    /// Learning rate of step `step` (from 0) of `steps`.
    pub fn rate(&self, step: u64, steps: u64, peak: f64) -> f64 {
        match *self {
            Self::Constant => peak,
            Self::Cosine { warmup } => {
                let (at, rise) = (step as f64, (steps as f64 * warmup).round());
                if at < rise {
                    return peak * (at + 1.0) / rise;
                }
                let share = (at - rise) / (steps as f64 - rise).max(1.0);
                peak * 0.5 * (1.0 + (PI * share.min(1.0)).cos())
            }
            Self::Step { every, factor } => {
                let falls = step / every.max(1);
                peak * factor.powi(i32::try_from(falls).unwrap_or(i32::MAX))
            }
            Self::Plateau(plateau) => peak * plateau.scale(),
        }
    }

    /// Tells of the validation loss of an epoch. All but [`Self::Plateau`] ignore it.
    pub fn observe(&mut self, loss: f64) {
        match self {
            Self::Plateau(plateau) => plateau.observe(loss),
            Self::Constant | Self::Cosine { .. } | Self::Step { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Schedule;

    #[test]
    fn the_cosine_rises_to_its_peak_and_ends_near_zero() {
        let at = |step| Schedule::Cosine { warmup: 0.1 }.rate(step, 100, 2.0);

        assert!((at(0) - 0.2).abs() < 1e-12);
        assert!((at(9) - 2.0).abs() < 1e-12);
        assert!((at(10) - 2.0).abs() < 1e-12);
        assert!((at(55) - 1.0).abs() < 1e-12);
        assert!(at(99) < 0.001);
    }

    #[test]
    fn steps_fall_where_they_are_told_to() {
        let at = |step| Schedule::Step { every: 10, factor: 0.1 }.rate(step, 100, 1.0);

        assert_eq!((at(0), at(9), at(10)), (1.0, 1.0, 0.1));
        assert!((at(25) - 0.01).abs() < 1e-15);
        assert_eq!(Schedule::Constant.rate(77, 100, 3.0), 3.0);
    }
}
