//! Optimisers with visible state: AdamW, Adam and SGD with momentum, as PyTorch computes them.
//!
//! On the CPU a step is one pass over each parameter, its gradient and its moments, in the type of
//! the parameter. Every value depends on itself alone, so the result is the same for any number of
//! threads. Other devices compose the same formulas from candle's operators.

mod average;
mod clip;
mod groups;
mod plateau;
mod rule;
mod schedule;
mod settings;
mod slot;

use std::collections::BTreeMap;

use candle_core::{Result, bail};

use crate::nn::tape::gradients::Gradients;
use crate::nn::tape::params::Params;
use crate::nn::tape::params::Tensors;
use rule::Rule;
use slot::Slot;

pub use average::Average;
pub use clip::clip_norm;
pub use groups::{Group, Groups};
pub use plateau::Plateau;
pub use schedule::Schedule;
pub use settings::{Kind, Settings};

/// An optimiser and its moments.
#[derive(Debug, Clone)]
pub struct Optimiser {
    settings: Settings,
    groups: Groups,
    step: u64,
    slots: BTreeMap<String, Slot>,
}

impl Optimiser {
    /// A fresh optimiser.
    pub fn new(settings: Settings, groups: Groups) -> Self {
        Self { settings, groups, step: 0, slots: BTreeMap::new() }
    }

    /// Moves every trainable parameter that has a gradient; see [`Kind`] for the papers. With `η` the
    /// learning rate and `w` the weight decay of the parameter's group, AdamW does
    /// `m ← β₁m + (1−β₁)g`, `v ← β₂v + (1−β₂)g²`,
    /// `θ ← (1 − ηw) θ − η m̂ / (√v̂ + ε)` with `m̂ = m / (1−β₁ᵗ)`, `v̂ = v / (1−β₂ᵗ)`;
    /// Adam adds `wθ` to `g` instead; SGD does so too, then `m ← μm + g` and `θ ← θ − ηm`, or
    /// `θ ← θ − η (g + μm)` when it looks ahead. `t` counts the steps of the optimiser.
    pub fn step(
        &mut self,
        params: &Params,
        gradients: &Gradients,
        learning_rate: f64,
    ) -> Result<()> {
        self.step += 1;
        for (name, variable) in params.trainable() {
            let Some(gradient) = gradients.get(name) else { continue };
            if gradient.shape() != variable.shape() || gradient.dtype() != variable.dtype() {
                bail!(
                    "{name} is {:?} {:?}, its gradient {:?} {:?}",
                    variable.dtype(),
                    variable.shape(),
                    gradient.dtype(),
                    gradient.shape()
                );
            }
            let group = self.groups.of(name, variable.rank());
            let rule = Rule::at(self.settings, self.step, learning_rate, group);
            if let Some(slot) = self.slots.get_mut(name) {
                slot.step(&rule, variable, gradient)?;
            } else {
                let mut slot = Slot::fresh(variable, self.settings.kind)?;
                slot.step(&rule, variable, gradient)?;
                self.slots.insert(name.to_owned(), slot);
            }
        }
        Ok(())
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// A copy of the moments on the CPU: `<name>.m`, the first moment or the velocity, and for AdamW
    /// and Adam `<name>.v`.
    pub fn state(&self) -> Result<Tensors> {
        let mut state = Tensors::new();
        for (name, slot) in &self.slots {
            let (first, second) = slot.state()?;
            state.insert(format!("{name}.m"), first);
            if let Some(second) = second {
                state.insert(format!("{name}.v"), second);
            }
        }
        Ok(state)
    }

    /// Goes on from a state after `step` steps, as if nothing had come in between.
    pub fn restore(&mut self, step: u64, state: &Tensors) -> Result<()> {
        let mut slots = BTreeMap::new();
        for (name, first) in state {
            let Some(name) = name.strip_suffix(".m") else { continue };
            let second = match (self.settings.kind, state.get(&format!("{name}.v"))) {
                (Kind::AdamW | Kind::Adam, Some(second)) => Some(second.copy()?),
                (Kind::AdamW | Kind::Adam, None) => {
                    bail!("the optimiser's state has no second moment of {name}")
                }
                (Kind::Sgd, _) => None,
            };
            slots.insert(name.to_owned(), Slot::Tensors(first.copy()?, second));
        }
        self.step = step;
        self.slots = slots;
        Ok(())
    }
}
