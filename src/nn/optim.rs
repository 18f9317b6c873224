//! AdamW with visible state, and the learning-rate schedule.

use candle_core::{CpuStorage, InplaceOp2, InplaceOp3, Layout, Result, Tensor, WithDType, bail};
use rayon::prelude::*;

use super::ops::{CHUNK, values};
use super::params::Params;
use super::{Gradients, Tensors};

/// Settings of AdamW (Loshchilov and Hutter 2019); the defaults are PyTorch's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decoupled weight decay of tensors with two or more dimensions.
    pub weight_decay: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 1e-2 }
    }
}

/// AdamW. Biases and normalisation parameters (one dimension) are not decayed.
#[derive(Debug, Clone)]
pub struct AdamW {
    settings: Settings,
    step: u64,
    moments: std::collections::BTreeMap<String, (Tensor, Tensor)>,
}

impl AdamW {
    /// A fresh optimiser.
    pub fn new(settings: Settings) -> Self {
        Self { settings, step: 0, moments: std::collections::BTreeMap::new() }
    }

    /// Moves every trainable parameter that has a gradient:
    /// `m ← β₁m + (1−β₁)g`, `v ← β₂v + (1−β₂)g²`,
    /// `θ ← θ − η (m̂ / (√v̂ + ε) + w θ)` with `m̂ = m / (1−β₁ᵗ)`, `v̂ = v / (1−β₂ᵗ)`.
    pub fn step(
        &mut self,
        params: &Params,
        gradients: &Gradients,
        learning_rate: f64,
    ) -> Result<()> {
        let settings = self.settings;
        let Settings { beta1, beta2, weight_decay, .. } = settings;
        self.step += 1;
        let exponent = self.step as f64;
        let (bias1, bias2) = (1.0 - beta1.powf(exponent), 1.0 - beta2.powf(exponent));
        for (name, variable) in params.trainable() {
            let Some(grad) = gradients.get(name) else { continue };
            let (m, v) = match self.moments.get(name) {
                Some(moments) => moments,
                None => {
                    let fresh = (variable.zeros_like()?, variable.zeros_like()?);
                    self.moments.entry(name.to_owned()).or_insert(fresh)
                }
            };
            let decay = if variable.rank() > 1 { weight_decay } else { 0.0 };
            let now = Now { settings, bias1, bias2, learning_rate, decay };
            if variable.device().is_cpu() {
                let grad = grad.contiguous()?;
                m.inplace_op2(&grad, &FirstMoment(beta1))?;
                v.inplace_op2(&grad, &SecondMoment(beta2))?;
                variable.inplace_op3(m, v, &now)?;
            } else {
                let m = ((m * beta1)? + (grad * (1.0 - beta1))?)?.detach();
                let v = ((v * beta2)? + (grad.sqr()? * (1.0 - beta2))?)?.detach();
                variable.set(&now.composed(variable, &m, &v)?)?;
                self.moments.insert(name.to_owned(), (m, v));
            }
        }
        Ok(())
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// A copy of the moments, as `<name>.m` and `<name>.v`.
    pub fn state(&self) -> Result<Tensors> {
        let mut state = Tensors::new();
        for (name, (m, v)) in &self.moments {
            state.insert(format!("{name}.m"), m.copy()?);
            state.insert(format!("{name}.v"), v.copy()?);
        }
        Ok(state)
    }

    /// Goes on from a state after `step` steps.
    pub fn restore(&mut self, step: u64, state: &Tensors) -> Result<()> {
        self.step = step;
        self.moments.clear();
        for (name, m) in state {
            let Some(name) = name.strip_suffix(".m") else { continue };
            let Some(v) = state.get(&format!("{name}.v")) else {
                candle_core::bail!("the optimiser's state has no second moment of {name}");
            };
            self.moments.insert(name.to_owned(), (m.copy()?, v.copy()?));
        }
        Ok(())
    }
}

/// `m ← β m + (1−β) g`, in place.
struct FirstMoment(f64);

/// `v ← β v + (1−β) g²`, in place.
struct SecondMoment(f64);

/// One step of the parameters, in place: everything but the tensors.
struct Now {
    settings: Settings,
    bias1: f64,
    bias2: f64,
    learning_rate: f64,
    decay: f64,
}

impl Now {
    /// `θ (1 − η w) − η m̂ / (√v̂ + ε)`
    fn composed(&self, theta: &Tensor, m: &Tensor, v: &Tensor) -> Result<Tensor> {
        let denominator = ((v / self.bias2)?.sqrt()? + self.settings.epsilon)?;
        let direction = (m / self.bias1)?.div(&denominator)?;
        let kept = (theta * (1.0 - self.learning_rate * self.decay))?;
        Ok((kept - (direction * self.learning_rate)?)?.detach())
    }
}

impl InplaceOp2 for FirstMoment {
    fn name(&self) -> &'static str {
        "first-moment"
    }

    fn cpu_fwd(
        &self,
        s1: &mut CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<()> {
        let (beta, rest) = (self.0, 1.0 - self.0);
        update((s1, l1), [(s2, l2)], |m, [g]| m * beta + g * rest)
    }
}

impl InplaceOp2 for SecondMoment {
    fn name(&self) -> &'static str {
        "second-moment"
    }

    fn cpu_fwd(
        &self,
        s1: &mut CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<()> {
        let (beta, rest) = (self.0, 1.0 - self.0);
        update((s1, l1), [(s2, l2)], |v, [g]| v * beta + g * g * rest)
    }
}

impl InplaceOp3 for Now {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn cpu_fwd(
        &self,
        s1: &mut CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<()> {
        let keep = 1.0 - self.learning_rate * self.decay;
        let (rate, second) = (self.learning_rate / self.bias1, 1.0 / self.bias2);
        let epsilon = self.settings.epsilon;
        update((s1, l1), [(s2, l2), (s3, l3)], |theta, [m, v]| {
            theta * keep - rate * m / ((v * second).sqrt() + epsilon)
        })
    }
}

/// `target[i] ← f(target[i], others[i])`, computed in 64 bits, kept in the target's type.
fn update<const N: usize>(
    (target, layout): (&mut CpuStorage, &Layout),
    others: [(&CpuStorage, &Layout); N],
    f: impl Fn(f64, [f64; N]) -> f64 + Sync,
) -> Result<()> {
    match target {
        CpuStorage::F32(all) => update_values(all, layout, others, f),
        CpuStorage::F64(all) => update_values(all, layout, others, f),
        _ => bail!("parameters are 32-bit or 64-bit floats"),
    }
}

fn update_values<T: WithDType, const N: usize>(
    all: &mut [T],
    layout: &Layout,
    others: [(&CpuStorage, &Layout); N],
    f: impl Fn(f64, [f64; N]) -> f64 + Sync,
) -> Result<()> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!("parameters are contiguous");
    };
    let mut slices: [&[T]; N] = [&[]; N];
    for (slice, (storage, layout)) in slices.iter_mut().zip(others) {
        *slice = values::<T>(storage, layout)?;
    }
    all[start..end].par_chunks_mut(CHUNK).enumerate().for_each(|(number, target)| {
        let at = number * CHUNK;
        let others = slices.map(|slice| &slice[at..at + target.len()]);
        for (place, target) in target.iter_mut().enumerate() {
            let own = others.map(|other| other[place].to_f64());
            *target = T::from_f64(f(target.to_f64(), own));
        }
    });
    Ok(())
}

/// Learning rate of step `step` (from 0) of `steps`: a linear rise over the first `warmup` share,
/// then half a cosine down to 0.
pub fn learning_rate(step: u64, steps: u64, warmup: f64, peak: f64) -> f64 {
    let rise = (steps as f64 * warmup).round();
    let at = step as f64;
    if at < rise {
        return peak * (at + 1.0) / rise;
    }
    let share = (at - rise) / (steps as f64 - rise).max(1.0);
    peak * 0.5 * (1.0 + (std::f64::consts::PI * share.min(1.0)).cos())
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};

    use super::{AdamW, Settings, learning_rate};
    use crate::nn::{Gradients, Params, Tensors};

    #[test]
    fn the_first_steps_are_those_of_the_paper() {
        let start = Tensor::new(&[[1.0_f64, -2.0]], &Device::Cpu).expect("a tensor");
        let tensors = Tensors::from([("w".to_owned(), start)]);
        let params = Params::new(&tensors, DType::F64, &Device::Cpu).expect("params");
        let mut adam = AdamW::new(Settings { weight_decay: 0.1, ..Settings::default() });
        let (mut expected, mut m, mut v) = (1.0_f64, 0.0_f64, 0.0_f64);

        for step in 1..=3 {
            let w = params.get("w").expect("w");
            let loss = w.sqr().and_then(|w| w.sum_all()).expect("a loss");
            let store = loss.backward().expect("gradients");
            adam.step(&params, &Gradients::from_store(&params, &store), 0.01).expect("a step");

            let g = 2.0 * expected;
            m = 0.9 * m + 0.1 * g;
            v = 0.999 * v + 0.001 * g * g;
            let (mh, vh) = (m / (1.0 - 0.9_f64.powi(step)), v / (1.0 - 0.999_f64.powi(step)));
            expected -= 0.01 * (mh / (vh.sqrt() + 1e-8) + 0.1 * expected);
            let found = w.to_vec2::<f64>().expect("values")[0][0];
            assert!((found - expected).abs() < 1e-12, "step {step}: {found} and {expected}");
        }
    }

    #[test]
    fn the_schedule_rises_to_its_peak_and_ends_near_zero() {
        let at = |step| learning_rate(step, 100, 0.1, 2.0);

        assert!((at(0) - 0.2).abs() < 1e-12);
        assert!((at(9) - 2.0).abs() < 1e-12);
        assert!((at(10) - 2.0).abs() < 1e-12);
        assert!((at(55) - 1.0).abs() < 1e-12);
        assert!(at(99) < 0.001);
    }
}
