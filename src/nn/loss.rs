//! Losses, written so that large logits neither overflow nor lose their gradient.

use candle_core::{D, Result, Tensor};

/// Mean cross-entropy of `logits` `[N, K]` against class indices: `mean(logΣexp(z) − z_t)`.
pub fn cross_entropy(logits: &Tensor, targets: &[u32]) -> Result<Tensor> {
    let shifted = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?.detach())?;
    let normaliser = shifted.exp()?.sum_keepdim(D::Minus1)?.log()?;
    let targets = Tensor::from_slice(targets, (targets.len(), 1), logits.device())?;
    (normaliser - shifted.gather(&targets, D::Minus1)?)?.mean_all()
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::cross_entropy;

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
}
