//! Losses, written so that large logits neither overflow nor lose their gradient.
//!
//! Everything is composed of candle's operators, so that it runs on every device. Where a formula's
//! derivative would come out wrong at a corner (an absolute value at 0, a power at 0), value and
//! slope are both computed and joined by `linearised`.

mod binary;
mod cross_entropy;
mod dice;
mod focal;

use candle_core::{D, DType, Result, Tensor, bail};

pub use binary::binary_cross_entropy;
pub use cross_entropy::{CrossEntropy, cross_entropy};
pub use dice::DiceAndCrossEntropy;
pub use focal::{Focal, binary_focal};

/// `log softmax(z)` over the last dimension: `z − max z − log Σ exp(z − max z)`.
pub fn log_softmax(logits: &Tensor) -> Result<Tensor> {
    let shifted = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?.detach())?;
    shifted.broadcast_sub(&shifted.exp()?.sum_keepdim(D::Minus1)?.log()?)
}

/// Logits with their classes last, `[rows, K]`, from `[N, K]` or from `[N, K, …]` with a position for
/// each further dimension.
fn rows(logits: &Tensor) -> Result<Tensor> {
    match logits.rank() {
        0 | 1 => bail!("logits {:?} have no dimension for classes", logits.shape()),
        2 => Ok(logits.clone()),
        _ => {
            let positions = logits.flatten_from(2)?;
            positions.transpose(1, 2)?.contiguous()?.flatten_to(1)
        }
    }
}

/// Class indices as a column `[rows, 1]`, each below `classes`.
fn column(targets: &Tensor, rows: usize, classes: usize) -> Result<Tensor> {
    let targets = targets.to_dtype(DType::U32)?.flatten_all()?;
    if targets.elem_count() != rows {
        bail!("{} targets for {rows} rows of logits", targets.elem_count());
    }
    if rows > 0 {
        let largest = targets.max_all()?.to_scalar::<u32>()?;
        if largest as usize >= classes {
            bail!("a target is class {largest}; there are {classes} classes");
        }
    }
    targets.unsqueeze(1)
}

/// A tensor of this value whose derivative by `x` is `slope`, whatever the operators that computed
/// both would have passed on.
fn linearised(x: &Tensor, value: &Tensor, slope: &Tensor) -> Result<Tensor> {
    value.detach() + (slope.detach() * (x - x.detach())?)?
}

/// `log(1 + exp(x))` as `max(x, 0) + log(1 + exp(−|x|))`, with derivative `σ(x)` at 0 too.
fn softplus(x: &Tensor) -> Result<Tensor> {
    let fixed = x.detach();
    let value = (fixed.maximum(0.0)? + (fixed.abs()?.neg()?.exp()? + 1.0)?.log()?)?;
    let slope = (fixed.neg()?.exp()? + 1.0)?.recip()?;
    linearised(x, &value, &slope)
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::softplus;

    #[test]
    fn softplus_and_its_slope_are_right_at_zero_and_far_from_it() {
        let x = [0.0_f32, 2.0, -2.0, 1000.0, -1000.0];
        let x = Var::from_slice(&x, 5, &Device::Cpu).expect("a tensor");

        let y = softplus(&x).expect("a value");
        let grads = y.sum_all().and_then(|sum| sum.backward()).expect("gradients");

        let near = |found: Vec<f32>, expected: [f32; 5]| {
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected).abs() < 1e-6, "{found} {expected}");
            }
        };
        near(
            y.to_vec1().expect("values"),
            [std::f32::consts::LN_2, 2.126_928, 0.126_928, 1000.0, 0.0],
        );
        let slopes = grads.get(&x).expect("a gradient").to_vec1().expect("values");
        near(slopes, [0.5, 0.880_797, 0.119_203, 1.0, 0.0]);
    }
}
