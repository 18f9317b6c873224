//! Fine-tuning for a class: from a frozen version and a backbone to an evaluated model and its files.

mod baseline;
mod card;
mod features;
pub(in crate::training) mod finetune;
pub(in crate::training) mod job;
pub(in crate::training) mod network;
mod pack;
mod probes;
mod recipe;
mod repeats;
pub mod replay;
