//! Runs that are done again and compared with what is on record.

use serde::{Deserialize, Serialize};

use super::Finetune;
use crate::domain::words::ids::RunId;

/// Runs a finished run again as far as some steps, and compares the losses with the recorded ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Replay {
    /// The finished run.
    pub run: RunId,
    /// Steps to run again; for `probe`, penalties to try again.
    pub steps: u32,
    /// The recipe of that run.
    pub recipe: Finetune,
}

/// What a replay found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Replayed {
    /// Losses compared.
    pub compared: u64,
    /// Whether all of them were the same, bit for bit.
    pub equal: bool,
    /// The first step whose loss differs.
    pub first_difference: Option<Difference>,
}

/// One loss that differs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Difference {
    /// The step, from 1.
    pub step: u64,
    /// The loss on record.
    pub recorded: f64,
    /// The loss found now.
    pub found: f64,
}
