//! The loss of training: cross-entropy against shares of classes, weighted by class and smoothed.

use candle_core::{DType, Tensor};

use crate::nn::loss::CrossEntropy;
use crate::training::run::error::TrainingError;

/// Cross-entropy of logits `z` `[N, K]` against shares `t` `[N, K]` of the classes, with weights `w`
/// of the classes and smoothing `ε`: `−Σ w_k t'_k ln softmax(z)_k / Σ w_k t_k` over images and
/// classes, where `t' = (1 − ε) t + ε / K`. For shares of one class alone it is PyTorch's
/// `CrossEntropyLoss(weight, label_smoothing)`.
#[derive(Debug, Clone)]
pub(super) struct SoftCrossEntropy(CrossEntropy);

impl SoftCrossEntropy {
    /// The loss with one weight a class, or none.
    pub(super) fn new(weights: Option<&[f32]>, smoothing: f64) -> Self {
        let class_weights =
            weights.map(|weights| weights.iter().map(|weight| f64::from(*weight)).collect());
        Self(CrossEntropy { class_weights, smoothing })
    }

    /// The loss, a number; its gradient is exact and does not overflow.
    pub(super) fn forward(
        &self,
        logits: &Tensor,
        targets: &Tensor,
    ) -> Result<Tensor, TrainingError> {
        Ok((self.0.sum_soft(logits, targets)? / self.weight_of(targets)?)?)
    }

    /// `Σ w_k t_k`: how much images weigh together. Losses of parts of a batch add up to that of the
    /// whole in the proportion of their weights.
    pub(super) fn weight_of(&self, targets: &Tensor) -> Result<f64, TrainingError> {
        let rows = targets.to_dtype(DType::F64)?.to_vec2::<f64>()?;
        let of_row = |row: &Vec<f64>| -> f64 {
            match &self.0.class_weights {
                Some(weights) => {
                    row.iter().zip(weights).map(|(share, weight)| share * weight).sum()
                }
                None => row.iter().sum(),
            }
        };
        Ok(rows.iter().map(of_row).sum())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor, Var};

    use super::SoftCrossEntropy;

    /// The formula in 64 bits, term by term.
    fn expected(logits: &[[f64; 3]], targets: &[[f64; 3]], weights: [f64; 3], e: f64) -> f64 {
        let (mut sum, mut weight) = (0.0, 0.0);
        for (z, t) in logits.iter().zip(targets) {
            let total: f64 = z.iter().map(|z| z.exp()).sum();
            for k in 0..3 {
                let smoothed = (1.0 - e) * t[k] + e / 3.0;
                sum -= weights[k] * smoothed * (z[k].exp() / total).ln();
                weight += weights[k] * t[k];
            }
        }
        sum / weight
    }

    #[test]
    fn the_loss_is_its_formula_and_the_gradient_its_slope() {
        let logits = [[0.3, -1.2, 2.0], [1.5, 0.1, -0.4]];
        let targets = [[0.0, 1.0, 0.0], [0.25, 0.0, 0.75]];
        let weights = [0.5, 2.0, 1.25];
        let cpu = Device::Cpu;
        let variable = Var::new(&logits, &cpu).expect("a tensor");
        let shares = Tensor::new(&targets, &cpu).expect("a tensor");
        let loss = SoftCrossEntropy::new(Some(&[0.5, 2.0, 1.25]), 0.1);

        let value = loss.forward(&variable, &shares).expect("a value");
        let grads = value.backward().expect("gradients");

        let found = value.to_scalar::<f64>().expect("a number");
        assert!((found - expected(&logits, &targets, weights, 0.1)).abs() < 1e-12);
        let slopes = grads.get(&variable).expect("a gradient").to_vec2::<f64>().expect("values");
        for (row, slopes) in slopes.iter().enumerate() {
            for (column, slope) in slopes.iter().enumerate() {
                let moved = |by: f64| {
                    let mut logits = logits;
                    logits[row][column] += by;
                    expected(&logits, &targets, weights, 0.1)
                };
                let finite = (moved(1e-6) - moved(-1e-6)) / 2e-6;
                assert!((slope - finite).abs() < 1e-8, "{row} {column}: {slope} and {finite}");
            }
        }
    }

    #[test]
    fn huge_logits_neither_overflow_nor_lose_their_gradient() {
        let cpu = Device::Cpu;
        let logits = Var::new(&[[1000.0_f32, -1000.0]], &cpu).expect("a tensor");
        let targets = Tensor::new(&[[0.0_f32, 1.0]], &cpu).expect("a tensor");
        let loss = SoftCrossEntropy::new(None, 0.0);

        let value = loss.forward(&logits, &targets).expect("a value");

        assert!((value.to_scalar::<f32>().expect("a number") - 2000.0).abs() < 1e-3);
        let grads = value.backward().expect("gradients");
        let grads = grads.get(&logits).expect("a gradient").to_vec2::<f32>().expect("values");
        assert_eq!(grads, [[1.0, -1.0]]);
    }
}
