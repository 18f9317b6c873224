//! Cross-entropy: of class indices or of soft targets, with class weights and label smoothing.

use candle_core::{D, Result, Tensor, bail};

use super::{column, log_softmax, rows};

/// Mean cross-entropy of `logits` `[N, K]` against class indices: `mean(logΣexp(z) − z_t)`.
pub fn cross_entropy(logits: &Tensor, targets: &[u32]) -> Result<Tensor> {
    CrossEntropy::default().of(logits, &Tensor::new(targets, logits.device())?)
}

/// Settings of the cross-entropy; the defaults are the plain mean.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CrossEntropy {
    /// A weight for each class, 1 for all when absent.
    pub class_weights: Option<Vec<f64>>,
    /// Share of each target that is spread over all classes evenly (Szegedy et al. 2016).
    pub smoothing: f64,
}

impl CrossEntropy {
    /// Against class indices, `[N]` for `logits` `[N, K]`, `[N, H, W]` for `[N, K, H, W]`. With
    /// weights `w`, smoothing `ε` and `p` the softmax, as PyTorch defines it:
    /// `Σₙ [(1−ε) w_t (−log p_t) + ε/K Σ_c w_c (−log p_c)] / Σₙ w_t`.
    pub fn of(&self, logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
        let log_p = log_softmax(&rows(logits)?)?;
        let (count, classes) = log_p.dims2()?;
        let targets = column(targets, count, classes)?;
        let weights = self.weights(classes, &log_p)?;
        let of_target = log_p.gather(&targets, D::Minus1)?;
        let (weighted, total) = match &weights {
            None => (of_target, Tensor::new(count as f64, log_p.device())?),
            Some(weights) => {
                let own = weights.broadcast_as((count, classes))?.contiguous()?;
                let own = own.gather(&targets, D::Minus1)?;
                ((of_target * &own)?, own.sum_all()?)
            }
        };
        let total = total.to_dtype(log_p.dtype())?;
        let hard = weighted.sum_all()?.div(&total)?.neg()?;
        if self.smoothing == 0.0 {
            return Ok(hard);
        }
        let all = match &weights {
            None => log_p.sum_all()?,
            Some(weights) => log_p.broadcast_mul(weights)?.sum_all()?,
        };
        let even = (all.div(&total)? * (-1.0 / classes as f64))?;
        (hard * (1.0 - self.smoothing))? + (even * self.smoothing)?
    }

    /// Against soft targets `y` of the shape of `logits`, the rows of which sum to 1 (mixup, Zhang et
    /// al. 2018): `−1/N Σₙ Σ_c w_c ((1−ε) y_c + ε/K) log p_c`, as PyTorch defines it.
    pub fn of_soft(&self, logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
        let count = rows(logits)?.dim(0)?;
        self.sum_soft(logits, targets)? / count as f64
    }

    /// The same, not divided by the number of rows: `−Σₙ Σ_c w_c ((1−ε) y_c + ε/K) log p_c`.
    pub fn sum_soft(&self, logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
        if logits.shape() != targets.shape() {
            bail!("soft targets {:?} for logits {:?}", targets.shape(), logits.shape());
        }
        let log_p = log_softmax(&rows(logits)?)?;
        let classes = log_p.dim(1)?;
        let targets = rows(targets)?.to_dtype(log_p.dtype())?;
        let even = self.smoothing / classes as f64;
        let mut targets = targets.affine(1.0 - self.smoothing, even)?;
        if let Some(weights) = self.weights(classes, &log_p)? {
            targets = targets.broadcast_mul(&weights)?;
        }
        (log_p * targets.detach())?.sum_all()?.neg()
    }

    /// The class weights as a row `[1, K]`.
    fn weights(&self, classes: usize, like: &Tensor) -> Result<Option<Tensor>> {
        let Some(weights) = &self.class_weights else { return Ok(None) };
        if weights.len() != classes {
            bail!("{} class weights for {classes} classes", weights.len());
        }
        let weights = Tensor::from_slice(weights, (1, classes), like.device())?;
        Ok(Some(weights.to_dtype(like.dtype())?))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor, Var};

    use super::{CrossEntropy, cross_entropy};

    #[test]
    fn loss_and_gradient_are_softmax_minus_one_hot_even_for_huge_logits() {
        let logits = Var::from_slice(&[1000.0_f64, 1001.0, -500.0, 0.0], (2, 2), &Device::Cpu)
            .expect("a tensor");

        let loss = cross_entropy(&logits, &[0, 1]).expect("a loss");
        let grads = loss.backward().expect("gradients");

        let p = 1.0 / (1.0 + 1.0_f64.exp());
        let expected = -p.ln() / 2.0;
        assert!((loss.to_scalar::<f64>().expect("a number") - expected).abs() < 1e-12);
        let gradient = grads.get(&logits).expect("a gradient").to_vec2::<f64>().expect("values");
        assert!((gradient[0][0] - (p - 1.0) / 2.0).abs() < 1e-12, "{gradient:?}");
        assert!((gradient[0][1] - (1.0 - p) / 2.0).abs() < 1e-12, "{gradient:?}");
        assert!(gradient[1][0].abs() < 1e-12 && gradient[1][1].abs() < 1e-12, "{gradient:?}");
    }

    #[test]
    fn a_target_that_is_no_class_and_a_missing_weight_are_refused() {
        let logits = Tensor::zeros((2, 3), candle_core::DType::F32, &Device::Cpu).expect("logits");
        let weighted = CrossEntropy { class_weights: Some(vec![1.0; 2]), smoothing: 0.0 };
        let targets = Tensor::new(&[0_u32, 1], &Device::Cpu).expect("targets");

        let refused = cross_entropy(&logits, &[0, 3]).expect_err("refused").to_string();
        assert!(refused.contains("a target is class 3; there are 3 classes"), "{refused}");
        let refused = cross_entropy(&logits, &[0]).expect_err("refused").to_string();
        assert!(refused.contains("1 targets for 2 rows of logits"), "{refused}");
        let refused = weighted.of(&logits, &targets).expect_err("refused").to_string();
        assert!(refused.contains("2 class weights for 3 classes"), "{refused}");
    }
}
