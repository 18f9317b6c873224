//! Gradients of a loss by the names of the parameters.

use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor};

use super::Params;

/// Gradients of trainable parameters, in the order of their names.
#[derive(Debug, Clone, Default)]
pub struct Gradients(BTreeMap<String, Tensor>);

impl Gradients {
    /// The gradients that candle found for the trainable ones of `params`.
    pub fn from_store(params: &Params, store: &GradStore) -> Self {
        let found = params.trainable().filter_map(|(name, variable)| {
            let gradient = store.get(variable)?;
            Some((name.to_owned(), gradient.clone()))
        });
        Self(found.collect())
    }

    /// The gradient of the parameter of this name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.0.get(name)
    }

    /// Sets the gradient of the parameter of this name.
    pub fn insert(&mut self, name: String, gradient: Tensor) {
        self.0.insert(name, gradient);
    }

    /// Every gradient, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.0.iter().map(|(name, gradient)| (name.as_str(), gradient))
    }

    /// How many parameters have a gradient.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no parameter has one.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds those of another part of the same batch: gradient accumulation.
    pub fn add(&mut self, other: Self) -> Result<()> {
        for (name, gradient) in other.0 {
            let sum = match self.0.get(&name) {
                Some(own) => (own + gradient)?,
                None => gradient,
            };
            self.0.insert(name, sum);
        }
        Ok(())
    }

    /// Multiplies every gradient by `factor`.
    pub fn scale(&mut self, factor: f64) -> Result<()> {
        for gradient in self.0.values_mut() {
            *gradient = (&*gradient * factor)?;
        }
        Ok(())
    }
}
