//! Training: from the images of a frozen version to an evaluated model and its files.

pub mod bootstrap;
mod card;
mod checkpoint;
pub mod data;
pub mod error;
pub mod evaluate;
mod features;
pub mod few_shot;
pub mod finetune;
pub mod folds;
mod full;
pub mod host;
pub mod job;
pub mod lbfgs;
pub mod logistic;
pub mod matrix;
pub mod metrics;
mod pack;
pub mod probe;
mod reporter;
pub mod span;
pub mod standardise;

pub use error::TrainingError;
pub use evaluate::evaluate;
pub use few_shot::{Candidate, TooFewImages, choose};
pub use finetune::{Outcome, run};
pub use host::{CachedFeatures, Host, HostError, Stop};
pub use job::{Example, Job};
pub use metrics::{CannotJudge, Judged};
pub use pack::Packed;
pub use probe::{Head, Probe, ProbeError, Sample, fit};
