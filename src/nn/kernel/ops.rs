//! Small operators, and the way from tensors to slices that all own operators share.

use candle_core::{
    CpuStorage, CustomOp1, D, DType, Layout, Result, Shape, Tensor, WithDType, bail,
};
use rayon::prelude::*;

/// Values that a chunk of elementwise work holds.
pub(in crate::nn) const CHUNK: usize = 1 << 14;

/// Does `$body` with `$values` naming the contiguous values of each storage, for `f32` and `f64`.
macro_rules! with_values {
    ($(($values:ident, $storage:expr, $layout:expr)),+ => $body:expr) => {
        match ($(crate::nn::ops::kind($storage),)+) {
            kinds if kinds == ($(crate::nn::ops::as_f32!($values),)+) => {
                $(let $values = crate::nn::kernel::ops::values::<f32>($storage, $layout)?;)+
                $body
            }
            _ => {
                $(let $values = crate::nn::kernel::ops::values::<f64>($storage, $layout)?;)+
                $body
            }
        }
    };
}
macro_rules! as_f32 {
    ($values:ident) => {
        candle_core::DType::F32
    };
}
pub(crate) use {as_f32, with_values};

/// The type of a storage's values.
pub(crate) fn kind(storage: &CpuStorage) -> DType {
    use candle_core::backend::BackendStorage;
    storage.dtype()
}

/// The values of a contiguous tensor.
pub(crate) fn values<'a, T: WithDType>(
    storage: &'a CpuStorage,
    layout: &Layout,
) -> Result<&'a [T]> {
    let all = storage.as_slice::<T>()?;
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&all[start..end]),
        None => bail!("an operator was given a tensor that is not contiguous"),
    }
}

/// A contiguous CPU tensor whose values are looked at in place.
pub(crate) struct Borrowed<'a> {
    storage: candle_core::StorageRef<'a>,
    layout: &'a Layout,
}

impl<'a> Borrowed<'a> {
    /// Holds on to a tensor's values.
    pub(crate) fn of(tensor: &'a Tensor) -> Self {
        let (storage, layout) = tensor.storage_and_layout();
        Self { storage, layout }
    }

    /// The values.
    pub(crate) fn values<T: WithDType>(&self) -> Result<&[T]> {
        match &*self.storage {
            candle_core::Storage::Cpu(storage) => values::<T>(storage, self.layout),
            _ => bail!("an operator for the CPU was given a tensor of another device"),
        }
    }
}

/// A copy of a tensor's values, row by row.
pub(in crate::nn) fn to_vec<T: WithDType>(tensor: &Tensor) -> Result<Vec<T>> {
    tensor.flatten_all()?.to_vec1::<T>()
}

/// `max(x, 0)`, with derivative 0 at 0 as PyTorch has it.
pub fn relu(x: &Tensor) -> Result<Tensor> {
    if x.device().is_cpu() { x.contiguous()?.apply_op1(Relu) } else { masked(x) }
}

/// The same from candle's own operators, whose `relu` has derivative 1 at 0; the mask does not.
fn masked(x: &Tensor) -> Result<Tensor> {
    x.mul(&x.gt(0.0)?.to_dtype(x.dtype())?)
}

struct Relu;

impl CustomOp1 for Relu {
    fn name(&self) -> &'static str {
        "relu"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let storage =
            with_values!((x, storage, layout) => WithDType::to_cpu_storage_owned(rectify(x)));
        Ok((storage, layout.shape().clone()))
    }

    fn bwd(&self, _x: &Tensor, y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(grad.contiguous()?.apply_op2_no_bwd(y, &ReluGradient)?))
    }
}

fn rectify<T: WithDType>(x: &[T]) -> Vec<T> {
    let zero = T::zero();
    x.par_iter()
        .with_min_len(CHUNK)
        .map(|value| if *value > zero { *value } else { zero })
        .collect()
}

struct ReluGradient;

impl candle_core::CustomOp2 for ReluGradient {
    fn name(&self) -> &'static str {
        "relu-gradient"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let storage = with_values!((grad, s1, l1), (y, s2, l2) =>
            WithDType::to_cpu_storage_owned(pass_where_positive(grad, y)));
        Ok((storage, l1.shape().clone()))
    }
}

fn pass_where_positive<T: WithDType>(grad: &[T], y: &[T]) -> Vec<T> {
    let zero = T::zero();
    grad.par_iter()
        .with_min_len(CHUNK)
        .zip(y.par_iter().with_min_len(CHUNK))
        .map(|(grad, y)| if *y > zero { *grad } else { zero })
        .collect()
}

/// `max(x + y, 0)`, the end of a residual block, in one pass.
pub fn add_relu(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    if x.device().is_cpu() {
        x.contiguous()?.apply_op2(&y.contiguous()?, AddRelu)
    } else {
        relu(&(x + y)?)
    }
}

struct AddRelu;

impl candle_core::CustomOp2 for AddRelu {
    fn name(&self) -> &'static str {
        "add-relu"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        if l1.shape() != l2.shape() {
            bail!("a block of shape {:?} cannot end on {:?}", l1.shape(), l2.shape());
        }
        let storage = with_values!((x, s1, l1), (y, s2, l2) =>
            WithDType::to_cpu_storage_owned(add_and_rectify(x, y)));
        Ok((storage, l1.shape().clone()))
    }

    fn bwd(
        &self,
        _x: &Tensor,
        _y: &Tensor,
        out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let passed = grad.contiguous()?.apply_op2_no_bwd(out, &ReluGradient)?;
        Ok((Some(passed.clone()), Some(passed)))
    }
}

fn add_and_rectify<T: WithDType>(x: &[T], y: &[T]) -> Vec<T> {
    let zero = T::zero();
    x.par_iter()
        .with_min_len(CHUNK)
        .zip(y.par_iter().with_min_len(CHUNK))
        .map(|(x, y)| {
            let sum = *x + *y;
            if sum > zero { sum } else { zero }
        })
        .collect()
}

/// Mean over height and width: `[N, C, H, W]` to `[N, C]`.
pub fn global_average_pool(x: &Tensor) -> Result<Tensor> {
    x.flatten_from(2)?.mean(2)
}

/// `x Wᵀ + b`: `x` is `[N, D]`, `weight` `[K, D]`, `bias` `[K]`.
pub fn linear(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    x.matmul(&weight.t()?)?.broadcast_add(bias)
}

/// Added to a squared length, so that a vector of zeros has a direction (zero) and a finite slope.
const LENGTH_EPSILON: f64 = 1e-12;

/// `x / √(Σx² + 10⁻¹²)` over the last dimension: vectors of length one; zeros stay zeros.
pub fn unit(x: &Tensor) -> Result<Tensor> {
    x.broadcast_div(&(x.sqr()?.sum_keepdim(D::Minus1)? + LENGTH_EPSILON)?.sqrt()?)
}

/// Softmax over the last dimension, composed so that its gradient is whole.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    let shifted = x.broadcast_sub(&x.max_keepdim(D::Minus1)?.detach())?;
    let exponents = shifted.exp()?;
    exponents.broadcast_div(&exponents.sum_keepdim(D::Minus1)?)
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor, Var};

    use super::{masked, relu};

    #[test]
    fn the_composed_relu_equals_the_kernel_forward_and_backward() {
        let x = Var::new(&[-2.0_f64, -0.0, 0.0, 1e-300, 3.0], &Device::Cpu).expect("a tensor");
        let both = |y: Tensor| {
            let grads = y.sqr().and_then(|z| (z + &y)?.sum_all()).and_then(|sum| sum.backward());
            let grads = grads.expect("gradients");
            let gradient = grads.get(&x).expect("a gradient").to_vec1::<f64>();
            (y.to_vec1::<f64>().expect("values"), gradient.expect("values"))
        };

        let kernel = both(relu(&x).expect("rectified"));

        assert_eq!(kernel, both(masked(&x).expect("rectified")));
        assert_eq!(kernel.1, [0.0, 0.0, 0.0, 1.0, 7.0]);
    }
}
