//! The place where the gradients of parameters go that do not pass through candle's graph.
//!
//! candle starts every gradient as zeros and adds to them. A network's parameters are large and each
//! is used once, so that its operators hand theirs over whole instead.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{Result, Tensor};

use crate::nn::tape::gradients::Gradients;

/// Gradients by name, shared by a network's operators.
#[derive(Debug, Clone, Default)]
pub(in crate::nn) struct Sink(Arc<Mutex<Gradients>>);

impl Sink {
    /// Hands over the gradient of a parameter; what a layer used twice gives is added up.
    pub(in crate::nn) fn put(&self, name: &str, gradient: Tensor) -> Result<()> {
        let mut own = Gradients::default();
        own.insert(name.to_owned(), gradient);
        self.add(own)
    }

    /// Hands over several; those of parameters that are there already are added to them.
    pub(in crate::nn) fn add(&self, gradients: Gradients) -> Result<()> {
        self.gradients().add(gradients)
    }

    /// Everything handed over since the last time.
    pub(in crate::nn) fn take(&self) -> Gradients {
        std::mem::take(&mut *self.gradients())
    }

    fn gradients(&self) -> MutexGuard<'_, Gradients> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
