//! Submitting runs: what is asked is filled in, checked, measured against the machine, and queued.

mod defaults;
mod error;
mod finetune;
mod forecast;
mod pretrain;
mod replay;
mod submitter;
mod version;

pub use defaults::fill_in_pretraining;
pub use error::SubmitError;
pub use forecast::Machine;
pub use submitter::{Estimate, Submitter};
