//! Binary cross-entropy of logits, one yes-or-no question for each value.

use candle_core::{Result, Tensor, bail};

use super::softplus;

/// Mean over all values of `(1−y) x + (1 + (w−1) y) log(1 + exp(−x))`, which is
/// `−w y log σ(x) − (1−y) log(1−σ(x))` without the overflow. `targets` `y` have the shape of
/// `logits` `[N, K]` and lie in `[0, 1]`; `positive_weights` `[K]`, one for each question, make up
/// for rare findings (1 for all when absent).
pub fn binary_cross_entropy(
    logits: &Tensor,
    targets: &Tensor,
    positive_weights: Option<&[f64]>,
) -> Result<Tensor> {
    if logits.shape() != targets.shape() {
        bail!("targets {:?} for logits {:?}", targets.shape(), logits.shape());
    }
    let y = targets.to_dtype(logits.dtype())?.detach();
    let never = y.affine(-1.0, 1.0)?;
    let soft = softplus(&logits.neg()?)?;
    let soft = match positive_weights {
        None => soft,
        Some(weights) => {
            let weights = Tensor::new(weights, logits.device())?.to_dtype(logits.dtype())?;
            let factor = (y.broadcast_mul(&(weights - 1.0)?)? + 1.0)?;
            (soft * factor)?
        }
    };
    ((logits * never)? + soft)?.mean_all()
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor, Var};

    use super::binary_cross_entropy;

    #[test]
    fn loss_and_gradient_are_those_of_the_formula_even_for_huge_logits() {
        let x = [0.0_f64, 1.5, -2.0, 800.0, -800.0, 700.0];
        let y = [1.0, 0.25, 0.0, 0.0, 1.0, 1.0];
        let weights = [2.0, 3.0];
        let logits = Var::from_slice(&x, (3, 2), &Device::Cpu).expect("a tensor");
        let targets = Tensor::from_slice(&y, (3, 2), &Device::Cpu).expect("a tensor");

        let loss = binary_cross_entropy(&logits, &targets, Some(&weights)).expect("a loss");
        let grads = loss.backward().expect("gradients");

        // `log σ(x)` is `−log(1 + exp(−x))`, and `x` itself far below 0.
        let log_sigmoid = |x: f64| if x < -700.0 { x } else { -(-x).exp().ln_1p() };
        let found = grads.get(&logits).and_then(|g| g.flatten_all().ok()).expect("a gradient");
        let found = found.to_vec1::<f64>().expect("values");
        let mut expected = 0.0;
        for at in 0..6 {
            let (x, y, w) = (x[at], y[at], weights[at % 2]);
            expected -= (w * y * log_sigmoid(x) + (1.0 - y) * log_sigmoid(-x)) / 6.0;
            let p = 1.0 / (1.0 + (-x).exp());
            let slope = ((1.0 - y) * p - w * y * (1.0 - p)) / 6.0;
            assert!((found[at] - slope).abs() < 1e-12, "{at}: {} {slope}", found[at]);
        }
        let loss = loss.to_scalar::<f64>().expect("a number");
        assert!((loss - expected).abs() < 1e-12 * expected, "{loss} {expected}");
    }
}
