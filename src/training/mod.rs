//! Training: from the images of a frozen version to an evaluated model and its files.

mod classify;
mod cycle;
pub mod data;
pub mod judge;
pub mod objective;
pub mod pretrain;
pub mod probe;
mod run;

pub use classify::finetune::{Outcome, run};
pub use classify::job::Job;
pub use classify::network::calibrate::calibrate;
pub use classify::replay;
pub use classify::replay::replay;
pub use data::example::Example;
pub use data::few_shot::{Candidate, TooFewImages, choose};
pub use judge::evaluate::evaluate;
pub use judge::metrics::{CannotJudge, Judged};
pub use probe::fit::fit;
pub use probe::head::{Head, HeadFacts, Probe, ProbeError, Sample};
pub use run::error::TrainingError;
pub use run::ground::Ground;
pub use run::host::{CachedFeatures, Host, HostError, Stop};
pub use run::packed::Packed;
