//! The choice of an optimiser and its numbers.

/// The optimisers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Adam with decoupled weight decay (Loshchilov and Hutter 2019).
    AdamW,
    /// Adam with weight decay as a part of the gradient (Kingma and Ba 2015).
    Adam,
    /// Stochastic gradient descent, with momentum where it is not 0.
    Sgd,
}

/// Settings of an optimiser; the defaults are PyTorch's of AdamW.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// The kind of the optimiser.
    pub kind: Kind,
    /// Decay of the first moment, for AdamW and Adam.
    pub beta1: f64,
    /// Decay of the second moment, for AdamW and Adam.
    pub beta2: f64,
    /// Added to the root of the second moment, for AdamW and Adam.
    pub epsilon: f64,
    /// Decay of the velocity, for SGD.
    pub momentum: f64,
    /// Whether SGD looks ahead along its velocity (Nesterov).
    pub nesterov: bool,
    /// Weight decay, multiplied by the factor of each parameter's group.
    pub weight_decay: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            kind: Kind::AdamW,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            momentum: 0.9,
            nesterov: false,
            weight_decay: 1e-2,
        }
    }
}
