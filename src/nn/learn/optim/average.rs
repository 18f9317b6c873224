//! An exponential moving average of the parameters.

use candle_core::{Device, Result, Tensor, bail};

use crate::nn::tape::params::{Params, Tensors};

/// Averages over the steps of a run: `a ← d a + (1−d) θ` with `d = min(decay, (1+t) / (10+t))`, so
/// that a short run is not held back by where it began. Everything is averaged, running statistics
/// included, and kept on the device of the parameters.
#[derive(Debug, Clone)]
pub struct Average {
    decay: f64,
    steps: u64,
    values: Tensors,
}

impl Average {
    /// An average that begins with the values of its first update.
    pub fn new(decay: f64) -> Self {
        Self { decay, steps: 0, values: Tensors::new() }
    }

    /// Takes in the parameters after a step.
    pub fn update(&mut self, params: &Params) -> Result<()> {
        let at = self.steps as f64;
        let rest = 1.0 - self.decay.min((1.0 + at) / (10.0 + at));
        for (name, variable) in params.iter() {
            let value = variable.as_detached_tensor();
            let next = match self.values.get(name) {
                None => value.copy()?,
                Some(own) => (own + ((value - own)? * rest)?)?,
            };
            self.values.insert(name.to_owned(), next);
        }
        self.steps += 1;
        Ok(())
    }

    /// Updates so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// A copy of the averages on the CPU, as [`Params::restore`] takes them: weights to evaluate and
    /// to publish, and what a checkpoint keeps.
    pub fn state(&self) -> Result<Tensors> {
        let copy = |(name, tensor): (&String, &Tensor)| -> Result<(String, Tensor)> {
            Ok((name.clone(), tensor.to_device(&Device::Cpu)?.copy()?))
        };
        self.values.iter().map(copy).collect()
    }

    /// Goes on from a state after `steps` updates of `params`.
    pub fn restore(&mut self, steps: u64, state: &Tensors, params: &Params) -> Result<()> {
        let mut values = Tensors::new();
        for (name, variable) in params.iter().filter(|_| steps > 0) {
            let Some(tensor) = state.get(name) else {
                bail!("the average has no tensor {name}");
            };
            if tensor.shape() != variable.shape() {
                bail!("the average of {name} is {:?}", tensor.shape());
            }
            let tensor = tensor.to_dtype(variable.dtype())?.to_device(variable.device())?;
            values.insert(name.to_owned(), tensor.copy()?);
        }
        self.steps = steps;
        self.values = values;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};

    use super::Average;
    use crate::nn::tape::params::{Params, Tensors};

    #[test]
    fn the_average_follows_its_formula_and_a_restored_one_goes_on_alike() {
        let start = Tensor::new(&[1.0_f64, -2.0], &Device::Cpu).expect("a tensor");
        let tensors = Tensors::from([("w".to_owned(), start)]);
        let params = Params::new(&tensors, DType::F64, &Device::Cpu).expect("params");
        let mut average = Average::new(0.3);
        let mut expected = 0.0;

        for step in 0_u32..6 {
            let value = f64::from(step * step);
            let tensor = Tensor::new(&[value, 0.0], &Device::Cpu).expect("a tensor");
            params.get("w").and_then(|w| w.set(&tensor)).expect("set");
            average.update(&params).expect("updated");
            let decay = 0.3_f64.min(f64::from(1 + step) / f64::from(10 + step));
            expected = if step == 0 { value } else { decay * expected + (1.0 - decay) * value };
            let state = average.state().expect("a state");
            let found = state["w"].to_vec1::<f64>().expect("values")[0];
            assert!((found - expected).abs() < 1e-12, "step {step}: {found} and {expected}");
            let mut next = Average::new(0.3);
            next.restore(average.steps(), &state, &params).expect("restored");
            average = next;
        }
    }
}
