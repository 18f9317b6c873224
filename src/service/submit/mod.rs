//! Submitting runs: what is asked is filled in, checked, measured against the machine, and queued.

mod error;
mod finetune;
mod forecast;
mod pretrain;
mod replay;
mod submitter;
mod version;

pub use error::SubmitError;
pub use forecast::Machine;
pub use submitter::{Estimate, Submitter};
