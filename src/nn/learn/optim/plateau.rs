//! The schedule that lowers the learning rate when the validation loss stops falling.

use serde::{Deserialize, Serialize};

/// Settings and state of the plateau schedule: written to a checkpoint as it is, it goes on where it
/// was.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Plateau {
    /// The part of the rate that each fall leaves.
    factor: f64,
    /// Epochs without a better loss that are borne before a fall.
    patience: u32,
    /// A loss is better when it is below the best one by more than this share of it.
    threshold: f64,
    best: Option<f64>,
    since_best: u32,
    scale: f64,
}

impl Plateau {
    /// A schedule that multiplies the rate by `factor` after more than `patience` epochs whose loss
    /// was not better than the best by one part in ten thousand, as PyTorch's does.
    pub fn new(factor: f64, patience: u32) -> Self {
        Self { factor, patience, threshold: 1e-4, best: None, since_best: 0, scale: 1.0 }
    }

    /// The part of the peak rate that is left.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// Takes note of an epoch's loss. One that is not a number is never better.
    pub fn observe(&mut self, loss: f64) {
        let is_better =
            loss.is_finite() && self.best.is_none_or(|best| loss < best * (1.0 - self.threshold));
        if is_better {
            self.best = Some(loss);
            self.since_best = 0;
            return;
        }
        self.since_best += 1;
        if self.since_best > self.patience {
            self.scale *= self.factor;
            self.since_best = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Plateau;

    #[test]
    fn the_rate_falls_after_the_patience_and_a_written_state_goes_on() {
        let losses = [1.0, 0.5, 0.5, 0.6, f64::NAN, 0.4, 0.45, 0.45, 0.45, 0.45];
        let expected = [1.0, 1.0, 1.0, 1.0, 0.1, 0.1, 0.1, 0.1, 0.01, 0.01];
        let mut plateau = Plateau::new(0.1, 2);

        for (loss, expected) in losses.into_iter().zip(expected) {
            plateau.observe(loss);
            let written = serde_json::to_string(&plateau).expect("it is written");
            plateau = serde_json::from_str(&written).expect("it is read");
            assert!((plateau.scale() - expected).abs() < 1e-12, "{loss}: {plateau:?}");
        }
    }
}
