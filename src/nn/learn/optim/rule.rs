//! The effect of one step on one parameter: the numbers of the formula, worked out once.

use candle_core::{CpuStorage, Result, Tensor, WithDType, bail};

use super::groups::Group;
use super::settings::{Kind, Settings};

/// The types of parameters.
pub(super) trait Stored: WithDType {
    /// `√self`
    fn root(self) -> Self;

    /// All values of a storage of this type.
    fn all_mut(storage: &mut CpuStorage) -> Option<&mut [Self]>;
}

impl Stored for f32 {
    fn root(self) -> Self {
        self.sqrt()
    }

    fn all_mut(storage: &mut CpuStorage) -> Option<&mut [Self]> {
        if let CpuStorage::F32(values) = storage { Some(values) } else { None }
    }
}

impl Stored for f64 {
    fn root(self) -> Self {
        self.sqrt()
    }

    fn all_mut(storage: &mut CpuStorage) -> Option<&mut [Self]> {
        if let CpuStorage::F64(values) = storage { Some(values) } else { None }
    }
}

/// One step of one parameter: everything but the tensors.
#[derive(Debug, Clone, Copy)]
pub(super) enum Rule {
    /// AdamW and Adam.
    Adam(Adam),
    /// SGD.
    Sgd(Sgd),
}

/// A step of AdamW or Adam.
#[derive(Debug, Clone, Copy)]
pub(super) struct Adam {
    beta1: f64,
    beta2: f64,
    epsilon: f64,
    /// `η / (1−β₁ᵗ)`
    rate: f64,
    /// `1 / √(1−β₂ᵗ)`
    correction: f64,
    /// `1 − ηw` for AdamW, 1 for Adam.
    kept: f64,
    /// `w` for Adam, 0 for AdamW.
    inside: f64,
}

/// A step of SGD.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sgd {
    momentum: f64,
    nesterov: bool,
    rate: f64,
    /// `w`
    inside: f64,
}

impl Rule {
    /// Step number `step`, from 1.
    pub(super) fn at(settings: Settings, step: u64, learning_rate: f64, group: Group) -> Self {
        let learning_rate = learning_rate * group.rate;
        let decay = settings.weight_decay * group.decay;
        let Settings { beta1, beta2, epsilon, momentum, nesterov, .. } = settings;
        let exponent = step as f64;
        let adam = |kept, inside| {
            Self::Adam(Adam {
                beta1,
                beta2,
                epsilon,
                rate: learning_rate / (1.0 - beta1.powf(exponent)),
                correction: 1.0 / (1.0 - beta2.powf(exponent)).sqrt(),
                kept,
                inside,
            })
        };
        match settings.kind {
            Kind::AdamW => adam(1.0 - learning_rate * decay, 0.0),
            Kind::Adam => adam(1.0, decay),
            Kind::Sgd => Self::Sgd(Sgd { momentum, nesterov, rate: learning_rate, inside: decay }),
        }
    }

    /// The step from candle's operators: the new parameter and moments.
    pub(super) fn composed(
        &self,
        theta: &Tensor,
        m: &Tensor,
        v: Option<&Tensor>,
        g: &Tensor,
    ) -> Result<(Tensor, Tensor, Option<Tensor>)> {
        let decayed = |inside: f64| if inside == 0.0 { Ok(g.clone()) } else { g + theta * inside };
        let (theta, m, v) = match (self, v) {
            (Self::Adam(adam), Some(v)) => {
                let g = decayed(adam.inside)?;
                let m = ((m * adam.beta1)? + (&g * (1.0 - adam.beta1))?)?;
                let v = ((v * adam.beta2)? + (g.sqr()? * (1.0 - adam.beta2))?)?;
                let denominator = ((v.sqrt()? * adam.correction)? + adam.epsilon)?;
                let moved = ((&m * adam.rate)? / denominator)?;
                (((theta * adam.kept)? - moved)?, m, Some(v.detach()))
            }
            (Self::Adam(_), None) => bail!("a step of Adam needs second moments"),
            (Self::Sgd(sgd), _) => {
                let g = decayed(sgd.inside)?;
                let m = ((m * sgd.momentum)? + &g)?;
                let direction = if sgd.nesterov { (g + (&m * sgd.momentum)?)? } else { m.clone() };
                ((theta - (direction * sgd.rate)?)?, m, None)
            }
        };
        Ok((theta.detach(), m.detach(), v))
    }
}

impl Adam {
    /// The step on equally long slices, in one pass.
    pub(super) fn apply<T: Stored>(&self, theta: &mut [T], m: &mut [T], v: &mut [T], g: &[T]) {
        let of = T::from_f64;
        let (b1, r1) = (of(self.beta1), of(1.0 - self.beta1));
        let (b2, r2) = (of(self.beta2), of(1.0 - self.beta2));
        let (epsilon, rate, correction) = (of(self.epsilon), of(self.rate), of(self.correction));
        let (kept, inside) = (of(self.kept), of(self.inside));
        for (((theta, m), v), g) in theta.iter_mut().zip(m).zip(v).zip(g) {
            let g = *g + inside * *theta;
            *m = b1 * *m + r1 * g;
            *v = b2 * *v + r2 * (g * g);
            *theta = kept * *theta - rate * *m / (v.root() * correction + epsilon);
        }
    }
}

impl Sgd {
    /// The step on equally long slices, in one pass.
    pub(super) fn apply<T: Stored>(&self, theta: &mut [T], m: &mut [T], g: &[T]) {
        // `θ ← θ − η (a g + b m)` is both kinds of momentum without a branch inside.
        let (a, b) = if self.nesterov { (1.0, self.momentum) } else { (0.0, 1.0) };
        let (a, b) = (T::from_f64(a), T::from_f64(b));
        let (momentum, rate) = (T::from_f64(self.momentum), T::from_f64(self.rate));
        let inside = T::from_f64(self.inside);
        for ((theta, m), g) in theta.iter_mut().zip(m).zip(g) {
            let g = *g + inside * *theta;
            *m = momentum * *m + g;
            *theta -= rate * (a * g + b * *m);
        }
    }
}
