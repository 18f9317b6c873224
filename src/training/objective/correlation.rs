//! Sums of squared correlations of different channels, without the matrix where images are few.

use candle_core::{D, Result, Tensor};

/// `Σ_{i≠j} (aᵀb)²_ij` for `a` and `b` `[B, C]` or, added up over the first dimension, `[G, B, C]`.
///
/// With fewer rows than channels the `C × C` matrix is not made: its squares sum up to those of the
/// `B × B` matrices, `‖aᵀb‖² = Σ (aaᵀ ∘ bbᵀ)`, and its diagonal is `Σ_b a ∘ b`. A matrix of so low a
/// rank has most of its squares off the diagonal, so that the difference is exact enough.
pub(super) fn off_diagonal(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (rows, channels) = (a.dim(D::Minus2)?, a.dim(D::Minus1)?);
    let transposed = |x: &Tensor| x.transpose(D::Minus2, D::Minus1);
    if rows < channels {
        let among = |x: &Tensor| x.matmul(&transposed(x)?);
        let all = (among(a)? * among(b)?)?.sum_all()?;
        let diagonal = (a * b)?.sum(D::Minus2)?;
        return all - diagonal.sqr()?.sum_all()?;
    }
    let matrix = transposed(a)?.matmul(b)?;
    let off = Tensor::eye(channels, a.dtype(), a.device())?.affine(-1.0, 1.0)?;
    matrix.sqr()?.broadcast_mul(&off)?.sum_all()
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor, Var};

    use super::off_diagonal;

    fn drawn(shape: &[usize], shift: usize) -> Var {
        let count: usize = shape.iter().product();
        let values: Vec<f64> =
            (0..count).map(|at| ((at + shift) * 37 % 101) as f64 / 50.0 - 1.0).collect();
        Var::from_vec(values, shape, &Device::Cpu).expect("a tensor")
    }

    /// The definition, with the sum written out.
    fn by_definition(a: &[Vec<f64>], b: &[Vec<f64>]) -> f64 {
        let channels = a[0].len();
        let mut sum = 0.0;
        for i in 0..channels {
            for j in (0..channels).filter(|j| *j != i) {
                sum += a.iter().zip(b).map(|(a, b)| a[i] * b[j]).sum::<f64>().powi(2);
            }
        }
        sum
    }

    #[test]
    fn few_rows_and_many_give_the_sum_of_the_definition() {
        for shape in [[3, 7], [7, 3], [4, 4], [1, 5]] {
            let (a, b) = (drawn(&shape, 0), drawn(&shape, 17));
            let values = |x: &Tensor| x.to_vec2::<f64>().expect("values");

            let sum = off_diagonal(&a, &b).and_then(|sum| sum.to_scalar::<f64>()).expect("a sum");

            let expected = by_definition(&values(&a), &values(&b));
            assert!((sum - expected).abs() < 1e-10 * expected, "{shape:?}: {sum} {expected}");
        }
    }

    #[test]
    fn the_gradient_of_groups_is_the_slope() {
        for shape in [[2, 3, 5], [2, 5, 3]] {
            let a = drawn(&shape, 0);
            let sum = || off_diagonal(&a, &a).expect("a sum");
            let grads = sum().backward().expect("gradients");
            let found = grads.get(&a).and_then(|g| g.flatten_all().ok()).expect("a gradient");
            let start = a.flatten_all().and_then(|a| a.to_vec1::<f64>()).expect("values");
            for (at, slope) in found.to_vec1::<f64>().expect("values").into_iter().enumerate() {
                let moved = |by: f64| {
                    let mut values = start.clone();
                    values[at] += by;
                    let moved = Tensor::from_vec(values, &shape, &Device::Cpu).expect("a tensor");
                    off_diagonal(&moved, &moved).and_then(|s| s.to_scalar::<f64>()).expect("a sum")
                };
                let expected = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                assert!((slope - expected).abs() < 1e-7, "{shape:?}: {slope} {expected}");
            }
        }
    }
}
