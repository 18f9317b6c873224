//! Small grey pictures of a run's images, made while those are decoded for something else.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::activations::Key;
use super::error::TrainingError;
use super::features::decoded;
use super::host::Host;
use super::job::Example;
use crate::config::Limits;
use crate::domain::Preprocessing;
use crate::domain::backbone::ChannelOrder;
use crate::imaging::{Picture, prepare};

/// Side of the pictures, in pixels.
pub(super) const SIDE: u32 = 32;

/// Pictures that are kept at most, 256 MB of them; others are decoded again when they are asked for.
const MOST: usize = 65_536;

/// A grey picture of each image that was met, brightness in `[0, 1]`, `SIDE * SIDE`.
#[derive(Default)]
pub(super) struct Glimpses(Mutex<HashMap<Key, Vec<f32>>>);

impl Glimpses {
    /// Keeps a small picture of an image, while there is room.
    pub(super) fn keep(&self, example: &Example, picture: &Picture) -> Result<(), TrainingError> {
        let key = (example.blob, example.frame);
        let is_kept =
            |known: &HashMap<Key, Vec<f32>>| known.len() >= MOST || known.contains_key(&key);
        if is_kept(&self.lock()) {
            return Ok(());
        }
        let small = grey(example, picture)?;
        self.lock().insert(key, small);
        Ok(())
    }

    /// The small picture of an image, decoded now where it was not met.
    pub(super) fn of(
        &self,
        example: &Example,
        host: &dyn Host,
        limits: &Limits,
    ) -> Result<Vec<f32>, TrainingError> {
        let known = self.lock().get(&(example.blob, example.frame)).cloned();
        known.map_or_else(|| grey(example, &decoded(example, host, limits)?), Ok)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Vec<f32>>> {
        // What is there was put there whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The mean of red, green and blue.
fn grey(example: &Example, picture: &Picture) -> Result<Vec<f32>, TrainingError> {
    let preprocessing = Preprocessing {
        size: SIDE,
        channel_order: ChannelOrder::Rgb,
        mean: [0.0; 3],
        std: [1.0; 3],
    };
    let planes = prepare(picture, None, &preprocessing)
        .map_err(|error| TrainingError::Image { image: example.image, error })?;
    let (red, rest) = planes.split_at(planes.len() / 3);
    let (green, blue) = rest.split_at(rest.len() / 2);
    let mean = |((red, green), blue): ((&f32, &f32), &f32)| (red + green + blue) / 3.0;
    Ok(red.iter().zip(green).zip(blue).map(mean).collect())
}
