//! The focal loss (Lin et al. 2017, eq. 5), which lets easy examples count for little:
//! `FL(p_t) = −α_t (1−p_t)^γ log p_t`.

use candle_core::{D, DType, Result, Tensor, bail};

use super::{column, linearised, log_softmax, rows, softplus};

/// Settings of the focal loss.
#[derive(Debug, Clone, PartialEq)]
pub struct Focal {
    /// `γ`: 0 is the cross-entropy, 2 the paper's choice.
    pub gamma: f64,
    /// `α` of each class, 1 for all when absent.
    pub class_weights: Option<Vec<f64>>,
}

impl Default for Focal {
    fn default() -> Self {
        Self { gamma: 2.0, class_weights: None }
    }
}

impl Focal {
    /// Mean over all rows, against class indices: `[N]` for `logits` `[N, K]`, `[N, H, W]` for
    /// `[N, K, H, W]`; `p` is the softmax.
    pub fn of(&self, logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
        let log_p = log_softmax(&rows(logits)?)?;
        let (count, classes) = log_p.dims2()?;
        let targets = column(targets, count, classes)?;
        let loss = focal(&log_p.gather(&targets, D::Minus1)?, self.gamma)?;
        let Some(weights) = &self.class_weights else { return loss.mean_all() };
        if weights.len() != classes {
            bail!("{} class weights for {classes} classes", weights.len());
        }
        let weights = Tensor::new(&weights[..], log_p.device())?.to_dtype(log_p.dtype())?;
        let own = weights.index_select(&targets.flatten_all()?, 0)?.unsqueeze(1)?;
        (loss * own)?.mean_all()
    }
}

/// Mean over all values of the focal loss of yes-or-no questions: `targets` are 0 or 1 and have the
/// shape of `logits`; `p` is the sigmoid; `α_t` is `alpha` for 1 and `1 − alpha` for 0 (0.25 in the
/// paper), or 1 for both when absent.
pub fn binary_focal(
    logits: &Tensor,
    targets: &Tensor,
    gamma: f64,
    alpha: Option<f64>,
) -> Result<Tensor> {
    if logits.shape() != targets.shape() {
        bail!("targets {:?} for logits {:?}", targets.shape(), logits.shape());
    }
    let y = targets.to_dtype(logits.dtype())?.detach();
    // log p_t = −log(1 + exp(−x)) for 1 and −log(1 + exp(x)) for 0.
    let log_p = softplus(&(logits * y.affine(-2.0, 1.0)?)?)?.neg()?;
    let loss = focal(&log_p, gamma)?;
    match alpha {
        None => loss.mean_all(),
        Some(alpha) => (loss * y.affine(2.0 * alpha - 1.0, 1.0 - alpha)?)?.mean_all(),
    }
}

/// Above this logarithm `1 − p` is computed without the loss of digits in the difference.
const NEAR_ONE: f64 = -1e-3;

/// `−(1−p)^γ u` with `u = log p`, and its derivative `−(1−p)^γ + γ p (1−p)^(γ−1) u`: powers of 0
/// would spoil what candle derives.
fn focal(log_p: &Tensor, gamma: f64) -> Result<Tensor> {
    let u = log_p.detach();
    let p = u.exp()?;
    // 1 − exp(u) = −u (1 + u/2 + u²/6 + …)
    let series = (((&u * (1.0 / 6.0))? + 0.5)? * &u)?.affine(1.0, 1.0)?;
    let near = (u.neg()? * series)?;
    let far = p.affine(-1.0, 1.0)?;
    let rest = u.gt(NEAR_ONE)?.where_cond(&near, &far)?;
    let smallest = match u.dtype() {
        DType::F64 => 1e-300,
        _ => 1e-30,
    };
    let rest = rest.clamp(smallest, 1.0)?;
    let power = rest.powf(gamma)?;
    let value = (&power * &u)?.neg()?;
    let slope = (((rest.powf(gamma - 1.0)? * p)? * &u)? * gamma)?;
    linearised(log_p, &value, &(slope - power)?)
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor, Var};

    use super::{Focal, binary_focal};
    use crate::nn::learn::loss::{binary_cross_entropy, cross_entropy};

    #[test]
    fn it_is_the_formula_of_the_paper() {
        let logits = Tensor::new(&[[2.0_f64, -1.0, 0.5], [0.0, 3.0, 1.0]], &Device::Cpu);
        let targets = Tensor::new(&[0_u32, 2], &Device::Cpu).expect("targets");
        let focal = Focal { gamma: 1.5, class_weights: Some(vec![0.25, 1.0, 2.0]) };

        let found = focal.of(&logits.expect("logits"), &targets).expect("a loss");

        let p = |z: [f64; 3], t: usize| z[t].exp() / z.iter().map(|z| z.exp()).sum::<f64>();
        let (one, two) = (p([2.0, -1.0, 0.5], 0), p([0.0, 3.0, 1.0], 2));
        let term = |p: f64, alpha: f64| -alpha * (1.0 - p).powf(1.5) * p.ln();
        let expected = f64::midpoint(term(one, 0.25), term(two, 2.0));
        let found = found.to_scalar::<f64>().expect("a number");
        assert!((found - expected).abs() < 1e-12, "{found} {expected}");
    }

    #[test]
    fn without_focus_it_is_the_cross_entropy_and_certainty_has_no_gradient() {
        let logits =
            Var::new(&[[40.0_f32, -40.0], [0.0, 0.0], [900.0, -900.0]], &Device::Cpu).expect("x");
        let targets = Tensor::new(&[0_u32, 1, 0], &Device::Cpu).expect("targets");
        let answers = Tensor::new(&[[1.0_f32, 0.0], [0.0, 1.0], [1.0, 0.0]], &Device::Cpu);
        let answers = answers.expect("answers");
        let number = |loss: &Tensor| loss.to_scalar::<f32>().expect("a number");
        let plain = Focal { gamma: 0.0, class_weights: None };

        let pairs = [
            (plain.of(&logits, &targets), cross_entropy(&logits, &[0, 1, 0])),
            (
                binary_focal(&logits, &answers, 0.0, None),
                binary_cross_entropy(&logits, &answers, None),
            ),
        ];
        for (found, expected) in pairs {
            let (found, expected) = (found.expect("a loss"), expected.expect("a loss"));
            assert!((number(&found) - number(&expected)).abs() < 1e-6);
        }
        for gamma in [0.0, 0.5, 1.0, 2.0] {
            let loss = Focal { gamma, class_weights: None }.of(&logits, &targets).expect("a loss");
            let grads = loss.backward().expect("gradients");
            let gradient = grads.get(&logits).expect("a gradient").to_vec2::<f32>();
            let gradient = gradient.expect("values");
            // What is sure has a gradient of softmax alone, exp(−80) or less.
            let sure = gradient[0].iter().chain(&gradient[2]);
            assert!(sure.into_iter().all(|value| value.abs() < 1e-30), "{gradient:?}");
            assert!(gradient[1].iter().all(|value| value.abs() > 1e-2), "{gradient:?}");
        }
    }
}
