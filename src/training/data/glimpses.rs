//! Small grey pictures of a run's images, made while those are decoded for something else.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::example::{Example, Key};
use super::prepared::decoded;
use crate::config::Limits;
use crate::imaging::{resize, square};
use crate::training::run::error::TrainingError;
use crate::training::run::host::Host;

/// Side of the pictures, in pixels.
pub(in crate::training) const SIDE: u32 = 32;

/// Pictures that are kept at most, 256 MB of them; others are decoded again when they are asked for.
const MOST: usize = 65_536;

/// A grey picture of each image that was met, brightness in `[0, 1]`, `SIDE * SIDE`: of what the network
/// sees, not of the original, which is large and would have to be filtered once more.
pub(in crate::training) struct Glimpses {
    /// Side of what the network sees, in pixels.
    size: u32,
    seen: Mutex<HashMap<Key, Vec<f32>>>,
}

impl Glimpses {
    /// None yet, of pictures for a network whose input has this side.
    pub(in crate::training) fn new(size: u32) -> Self {
        Self { size, seen: Mutex::default() }
    }

    /// Keeps a small picture of an image, while there is room. `planes` are those of [`square`] at the
    /// network's size.
    pub(in crate::training) fn keep(
        &self,
        example: &Example,
        planes: &[Vec<f32>],
    ) -> Result<(), TrainingError> {
        let key = example.key();
        let is_kept =
            |known: &HashMap<Key, Vec<f32>>| known.len() >= MOST || known.contains_key(&key);
        if is_kept(&self.lock()) {
            return Ok(());
        }
        let small = self.grey(example, planes)?;
        self.lock().insert(key, small);
        Ok(())
    }

    /// The small picture of an image, decoded now where it was not met.
    pub(in crate::training) fn of(
        &self,
        example: &Example,
        host: &dyn Host,
        limits: &Limits,
    ) -> Result<Vec<f32>, TrainingError> {
        let known = self.lock().get(&example.key()).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let picture = decoded(example, host, limits)?;
        let planes = square(&picture, None, self.size)
            .map_err(|error| TrainingError::Image { image: example.image, error })?;
        self.grey(example, &planes)
    }

    /// The mean of the planes, small.
    fn grey(&self, example: &Example, planes: &[Vec<f32>]) -> Result<Vec<f32>, TrainingError> {
        let mut mean = vec![0.0; planes.first().map_or(0, Vec::len)];
        for plane in planes {
            let share = 1.0 / planes.len() as f32;
            mean.iter_mut().zip(plane).for_each(|(sum, value)| *sum += share * value);
        }
        resize(mean, self.size, self.size, SIDE, SIDE)
            .map_err(|error| TrainingError::Image { image: example.image, error })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Vec<f32>>> {
        // What is there was put there whole.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
