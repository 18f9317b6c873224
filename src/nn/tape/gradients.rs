//! Gradients of a loss by the names of the parameters.

use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{DType, Result, Tensor, WithDType};
use rayon::prelude::*;

use crate::nn::kernel::ops::{Borrowed, CHUNK};
use crate::nn::tape::params::Params;

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

    /// The number of parameters that have a gradient.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no parameter has one.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds `share` times the gradients of a part of the same batch: gradient accumulation. With the
    /// mean loss of each part and shares of `images of the part / images of the batch`, the sum is
    /// the gradient of the mean loss of the batch.
    pub fn accumulate(&mut self, mut part: Self, share: f64) -> Result<()> {
        part.scale(share)?;
        self.add(part)
    }

    /// Adds those of another part of the same batch.
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

    /// The Euclidean norm of all gradients together, summed in 64 bits in the order of the names and
    /// of the values, whatever the number of threads.
    pub fn norm(&self) -> Result<f64> {
        let mut sum = 0.0;
        for gradient in self.0.values() {
            sum += sum_of_squares(gradient)?;
        }
        Ok(sum.sqrt())
    }

    /// The first parameter, by name, whose gradient has a value that is not finite.
    pub fn first_not_finite(&self) -> Result<Option<&str>> {
        for (name, gradient) in &self.0 {
            // Finite 32-bit values have a finite sum of squares in 64 bits; times zero, so do others.
            let sum = match gradient.dtype() {
                DType::F32 => sum_of_squares(gradient)?,
                _ => sum_of_squares(&(gradient * 0.0)?)?,
            };
            if !sum.is_finite() {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }
}

fn sum_of_squares(tensor: &Tensor) -> Result<f64> {
    if !tensor.device().is_cpu() {
        return tensor.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar();
    }
    let tensor = tensor.contiguous()?;
    let borrowed = Borrowed::of(&tensor);
    match tensor.dtype() {
        DType::F32 => Ok(sum_of_chunks(borrowed.values::<f32>()?)),
        _ => Ok(sum_of_chunks(borrowed.values::<f64>()?)),
    }
}

/// `Σx²`: chunks of a fixed length, in lanes, then the chunks in their order.
fn sum_of_chunks<T: WithDType>(values: &[T]) -> f64 {
    const LANES: usize = 8;
    let chunk = |chunk: &[T]| -> f64 {
        let mut sums = [0.0; LANES];
        for values in chunk.chunks(LANES) {
            for (sum, value) in sums.iter_mut().zip(values) {
                let value = value.to_f64();
                *sum += value * value;
            }
        }
        sums.iter().sum()
    };
    let sums: Vec<f64> = values.par_chunks(CHUNK).map(chunk).collect();
    sums.iter().sum()
}
