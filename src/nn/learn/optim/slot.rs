//! The moments of one parameter, where they are at hand for the step.

use std::sync::{Mutex, PoisonError};

use candle_core::{CpuStorage, DType, Device, InplaceOp2, Layout, Result, Tensor, Var, bail};
use rayon::prelude::*;

use super::rule::{Rule, Stored};
use super::settings::Kind;
use crate::nn::kernel::ops::{CHUNK, to_vec, values};

/// First and second moments of one parameter. Of SGD the first is the velocity and there is no
/// second.
#[derive(Debug, Clone)]
pub(super) enum Slot {
    /// Of a 32-bit parameter on the CPU.
    Single(Moments<f32>),
    /// Of a 64-bit parameter on the CPU.
    Double(Moments<f64>),
    /// Of any parameter: on other devices, and as restored until the next step.
    Tensors(Tensor, Option<Tensor>),
}

/// Moments in memory; `v` is empty where there is no second.
#[derive(Debug, Clone)]
pub(super) struct Moments<T> {
    shape: Vec<usize>,
    m: Vec<T>,
    v: Vec<T>,
}

impl<T: Stored> Moments<T> {
    fn of(m: &Tensor, v: Option<&Tensor>) -> Result<Self> {
        let to_vec = |tensor: &Tensor| to_vec::<T>(&tensor.to_dtype(T::DTYPE)?);
        let second = v.map(to_vec).transpose()?.unwrap_or_default();
        Ok(Self { shape: m.dims().to_vec(), m: to_vec(m)?, v: second })
    }

    fn tensors(&self) -> Result<(Tensor, Option<Tensor>)> {
        let tensor = |values: &[T]| Tensor::from_slice(values, &self.shape[..], &Device::Cpu);
        let second = if self.v.len() == self.m.len() { Some(tensor(&self.v)?) } else { None };
        Ok((tensor(&self.m)?, second))
    }

    fn step(&mut self, rule: &Rule, variable: &Var, gradient: &Tensor) -> Result<()> {
        let update = Update { rule, moments: Mutex::new(self) };
        variable.inplace_op2(&gradient.contiguous()?, &update)
    }
}

impl Slot {
    /// Moments of a parameter that has not been moved.
    pub(super) fn fresh(variable: &Var, kind: Kind) -> Result<Self> {
        let zeros = variable.zeros_like()?.detach();
        Ok(match kind {
            Kind::AdamW | Kind::Adam => Self::Tensors(zeros.clone(), Some(zeros)),
            Kind::Sgd => Self::Tensors(zeros, None),
        })
    }

    /// A copy of both on the CPU.
    pub(super) fn state(&self) -> Result<(Tensor, Option<Tensor>)> {
        match self {
            Self::Single(moments) => moments.tensors(),
            Self::Double(moments) => moments.tensors(),
            Self::Tensors(m, v) => {
                let kept = |tensor: &Tensor| tensor.to_device(&Device::Cpu)?.copy();
                Ok((kept(m)?, v.as_ref().map(kept).transpose()?))
            }
        }
    }

    /// Moves the parameter and its moments by one step.
    pub(super) fn step(&mut self, rule: &Rule, variable: &Var, gradient: &Tensor) -> Result<()> {
        if let Self::Tensors(m, v) = self {
            let fits = |moment: &Tensor| moment.shape() == variable.shape();
            if !fits(m) || !v.as_ref().is_none_or(fits) {
                bail!("moments {:?} of a parameter {:?}", m.shape(), variable.shape());
            }
            let v = v.as_ref();
            *self = match (variable.device(), variable.dtype()) {
                (Device::Cpu, DType::F32) => Self::Single(Moments::of(m, v)?),
                (Device::Cpu, DType::F64) => Self::Double(Moments::of(m, v)?),
                (device, dtype) => {
                    let placed = |tensor: &Tensor| tensor.to_dtype(dtype)?.to_device(device);
                    Self::Tensors(placed(m)?, v.map(placed).transpose()?)
                }
            };
        }
        match self {
            Self::Single(moments) => moments.step(rule, variable, gradient),
            Self::Double(moments) => moments.step(rule, variable, gradient),
            Self::Tensors(m, v) => {
                let (theta, first, second) = rule.composed(variable, m, v.as_ref(), gradient)?;
                variable.set(&theta)?;
                (*m, *v) = (first, second);
                Ok(())
            }
        }
    }
}

/// The step of one parameter on the CPU. candle lends one tensor to write to, the parameter; the
/// moments are written beside it, by the one call that there is.
struct Update<'a, T> {
    rule: &'a Rule,
    moments: Mutex<&'a mut Moments<T>>,
}

impl<T: Stored> InplaceOp2 for Update<'_, T> {
    fn name(&self) -> &'static str {
        "optimiser-step"
    }

    fn cpu_fwd(
        &self,
        s1: &mut CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<()> {
        let Some((start, end)) = l1.contiguous_offsets() else {
            bail!("parameters are contiguous");
        };
        let Some(theta) = T::all_mut(s1) else { bail!("a parameter changed its type") };
        let theta = theta[start..end].par_chunks_mut(CHUNK);
        let gradient = values::<T>(s2, l2)?.par_chunks(CHUNK);
        let mut moments = self.moments.lock().unwrap_or_else(PoisonError::into_inner);
        let Moments { m, v, .. } = &mut **moments;
        let parts = theta.zip(gradient).zip(m.par_chunks_mut(CHUNK));
        match self.rule {
            Rule::Adam(adam) => parts
                .zip(v.par_chunks_mut(CHUNK))
                .for_each(|(((theta, g), m), v)| adam.apply(theta, m, v, g)),
            Rule::Sgd(sgd) => parts.for_each(|((theta, g), m)| sgd.apply(theta, m, g)),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor, Var};

    use super::{Rule, Slot};
    use crate::nn::learn::optim::{Group, Kind, Settings};

    /// More values than a chunk holds, so that chunks meet.
    const COUNT: usize = 40_000;

    fn tensor(seed: usize) -> Tensor {
        let value = |at: usize| ((at * 37 + seed * 11) % 101) as f64 / 50.0 - 1.0;
        Tensor::from_iter((0..COUNT).map(value), &Device::Cpu).expect("a tensor")
    }

    #[test]
    fn the_fused_step_equals_the_composed_one() {
        for kind in [Kind::AdamW, Kind::Adam, Kind::Sgd] {
            let settings = Settings { kind, weight_decay: 0.1, ..Settings::default() };
            let group = Group { rate: 0.5, decay: 2.0 };
            let variable = Var::from_tensor(&tensor(1)).expect("a variable");
            let mut slot = Slot::fresh(&variable, kind).expect("a slot");
            let (mut theta, mut m) = (tensor(1), variable.zeros_like().expect("zeros"));
            let mut v = (kind != Kind::Sgd).then(|| m.clone());

            for step in 1..=3 {
                let rule = Rule::at(settings, step, 0.01, group);
                let gradient = tensor(1 + step as usize);
                slot.step(&rule, &variable, &gradient).expect("a fused step");
                (theta, m, v) =
                    rule.composed(&theta, &m, v.as_ref(), &gradient).expect("a composed step");
            }

            let (fused_m, fused_v) = slot.state().expect("moments");
            assert_eq!(fused_v.is_some(), v.is_some());
            let pairs = [(variable.as_detached_tensor(), theta), (fused_m, m)];
            for (one, other) in pairs.into_iter().chain(fused_v.zip(v)) {
                let difference = (one - other).and_then(|d| d.abs()).and_then(|d| d.max_all());
                let difference = difference.and_then(|d| d.to_scalar::<f64>()).expect("a number");
                assert!(difference < 1e-14, "{kind:?}: {difference}");
            }
        }
    }
}
