//! The Gaussian error linear unit, `x Φ(x)` with the exact distribution, and its derivative.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, WithDType};
use rayon::prelude::*;

use crate::nn::kernel::ops::{CHUNK, with_values};
use crate::nn::kernel::real::{Real, vectorised};

/// `x Φ(x)`, as PyTorch's `gelu` without approximation.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    if x.device().is_cpu() { x.contiguous()?.apply_op1(Gelu) } else { composed(x) }
}

/// The same from candle's own operators; its error function has a gradient.
pub(in crate::nn) fn composed(x: &Tensor) -> Result<Tensor> {
    let distribution = ((x * std::f64::consts::FRAC_1_SQRT_2)?.erf()? + 1.0)?;
    (x * distribution)? * 0.5
}

/// Writes `x Φ(x)` over `out`.
pub(in crate::nn) fn forward<T: Real>(x: &[T], out: &mut [T]) {
    out.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(out, x)| {
        vectorised(
            #[inline(always)]
            || {
                for (out, x) in out.iter_mut().zip(x) {
                    *out = *x * x.normal().0;
                }
            },
        );
    });
}

/// Writes `x Φ(x)` over `out`, and over `grad` what it becomes in the backward pass:
/// `grad (Φ(x) + x φ(x))`.
pub(in crate::nn) fn forward_and_backward<T: Real>(x: &[T], out: &mut [T], grad: &mut [T]) {
    out.par_chunks_mut(CHUNK).zip(grad.par_chunks_mut(CHUNK)).zip(x.par_chunks(CHUNK)).for_each(
        |((out, grad), x)| {
            vectorised(
                #[inline(always)]
                || {
                    for ((out, grad), x) in out.iter_mut().zip(grad).zip(x) {
                        let (distribution, density) = x.normal();
                        *out = *x * distribution;
                        *grad *= distribution + *x * density;
                    }
                },
            );
        },
    );
}

struct Gelu;

impl CustomOp1 for Gelu {
    fn name(&self) -> &'static str {
        "gelu"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let storage = with_values!((x, storage, layout) => {
            let mut out = x.to_vec();
            forward(x, &mut out);
            WithDType::to_cpu_storage_owned(out)
        });
        Ok((storage, layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _out: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(x.apply_op2_no_bwd(&grad.contiguous()?, &GeluGradient)?))
    }
}

struct GeluGradient;

impl CustomOp2 for GeluGradient {
    fn name(&self) -> &'static str {
        "gelu-gradient"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let storage = with_values!((x, s1, l1), (grad, s2, l2) => {
            let (mut out, mut grad) = (x.to_vec(), grad.to_vec());
            forward_and_backward(x, &mut out, &mut grad);
            WithDType::to_cpu_storage_owned(grad)
        });
        Ok((storage, l1.shape().clone()))
    }
}
