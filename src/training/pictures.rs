//! Prepared pictures of a run, kept in memory as far as the limit allows.

use std::collections::HashMap;
use std::sync::Arc;

use super::error::TrainingError;
use super::features::input;
use super::host::Host;
use super::job::{Example, Job};

/// Prepared pictures of some examples.
pub(super) struct Pictures<'a> {
    job: &'a Job,
    host: &'a dyn Host,
    examples: &'a [&'a Example],
    kept: HashMap<usize, Arc<Vec<f32>>>,
    /// Bytes that may still be kept.
    room: u64,
}

impl<'a> Pictures<'a> {
    /// Pictures of `examples`, none decoded yet, keeping at most `room` bytes.
    pub(super) fn new(
        job: &'a Job,
        host: &'a dyn Host,
        examples: &'a [&'a Example],
        room: u64,
    ) -> Self {
        Self { job, host, examples, kept: HashMap::new(), room }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.examples.len()
    }

    /// The prepared picture of example `at`, `[3, size, size]`.
    pub(super) fn get(&mut self, at: usize) -> Result<Arc<Vec<f32>>, TrainingError> {
        if let Some(kept) = self.kept.get(&at) {
            return Ok(Arc::clone(kept));
        }
        let prepared = Arc::new(input(self.job, self.examples[at], self.host)?);
        let bytes = size_of_val(prepared.as_slice()) as u64;
        if bytes <= self.room {
            self.room -= bytes;
            self.kept.insert(at, Arc::clone(&prepared));
        }
        Ok(prepared)
    }

    /// Class of example `at`.
    pub(super) fn label(&self, at: usize) -> u32 {
        self.examples[at].label as u32
    }
}
