//! A network's parameters by name: what is trained, and what only follows (running statistics).

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{DType, Device, Result, Tensor, Var, bail};

/// Endings of tensors that are never trained.
const FOLLOWING: [&str; 2] = ["running_mean", "running_var"];

/// Tensors by name, in the order of their names.
pub type Tensors = BTreeMap<String, Tensor>;

/// Named parameters in the order of their names.
#[derive(Debug, Clone)]
pub struct Params {
    all: BTreeMap<String, Var>,
    /// Names of those that stay as they are, beside those that only follow.
    frozen: BTreeSet<String>,
}

impl Params {
    /// Parameters that start from `tensors`, as `dtype` on `device`.
    pub fn new(tensors: &Tensors, dtype: DType, device: &Device) -> Result<Self> {
        let variable = |(name, tensor): (&String, &Tensor)| -> Result<(String, Var)> {
            let tensor = tensor.to_dtype(dtype)?.to_device(device)?;
            Ok((name.clone(), Var::from_tensor(&tensor)?))
        };
        let all = tensors.iter().map(variable).collect::<Result<_>>()?;
        Ok(Self { all, frozen: BTreeSet::new() })
    }

    /// The parameter of this name.
    pub fn get(&self, name: &str) -> Result<&Var> {
        match self.all.get(name) {
            Some(found) => Ok(found),
            None => bail!("the weights have no tensor {name}"),
        }
    }

    /// Freezes every parameter that `is_trained` does not name. Networks made before see nothing of
    /// it: freeze first.
    pub fn train_only(&mut self, is_trained: impl Fn(&str) -> bool) {
        self.frozen = self.all.keys().filter(|name| !is_trained(name)).cloned().collect();
    }

    /// Whether the parameter of this name is trained.
    pub fn is_trainable(&self, name: &str) -> bool {
        let follows = FOLLOWING.iter().any(|ending| name.ends_with(ending));
        !follows && self.all.contains_key(name) && !self.frozen.contains(name)
    }

    /// The parameters that are trained, in the order of the names.
    pub fn trainable(&self) -> impl Iterator<Item = (&str, &Var)> {
        self.iter().filter(|(name, _)| self.is_trainable(name))
    }

    /// Every tensor, what only follows included, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Var)> {
        self.all.iter().map(|(name, variable)| (name.as_str(), variable))
    }

    /// The tensor to compute with: part of the graph when it is trained, apart from it otherwise.
    pub fn tensor(&self, name: &str) -> Result<Tensor> {
        let variable = self.get(name)?.as_tensor();
        Ok(if self.is_trainable(name) { variable.clone() } else { variable.detach() })
    }

    /// A copy of every value, running statistics included, on the CPU.
    pub fn snapshot(&self) -> Result<Tensors> {
        let copy = |(name, variable): (&String, &Var)| -> Result<(String, Tensor)> {
            Ok((name.clone(), variable.as_tensor().to_device(&Device::Cpu)?.copy()?.detach()))
        };
        self.all.iter().map(copy).collect()
    }

    /// Sets every value from a snapshot.
    pub fn restore(&self, snapshot: &Tensors) -> Result<()> {
        for (name, variable) in &self.all {
            let Some(tensor) = snapshot.get(name) else {
                bail!("the snapshot has no tensor {name}");
            };
            variable.set(&tensor.to_dtype(variable.dtype())?.to_device(variable.device())?)?;
        }
        Ok(())
    }
}
