//! Where the gradients of parameters go that do not pass through candle's graph.
//!
//! candle starts every gradient as zeros and adds to them. A transformer's parameters are large and
//! each is used once, so that its layers hand theirs over whole instead.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{Device, Result, Tensor, WithDType};

use super::parameters::Parameter;
use crate::nn::Gradients;

/// Gradients by name, shared by a network's layers.
#[derive(Debug, Clone, Default)]
pub(super) struct Sink(Arc<Mutex<Gradients>>);

impl Sink {
    /// Hands over the gradient of a parameter; what a layer used twice gives is added up.
    pub(super) fn put<T: WithDType>(&self, parameter: &Parameter, values: Vec<T>) -> Result<()> {
        let gradient = Tensor::from_vec(values, parameter.tensor.shape(), &Device::Cpu)?;
        let mut gradients = self.gradients();
        let gradient = match gradients.get(&parameter.name) {
            None => gradient,
            Some(own) => (own + gradient)?,
        };
        gradients.insert(parameter.name.clone(), gradient);
        Ok(())
    }

    /// Everything handed over since the last time.
    pub(super) fn take(&self) -> Gradients {
        std::mem::take(&mut *self.gradients())
    }

    fn gradients(&self) -> MutexGuard<'_, Gradients> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
