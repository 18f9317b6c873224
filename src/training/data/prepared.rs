//! The picture of an example, decoded and prepared for a network, without a cache.

use super::example::Example;
use crate::config::Limits;
use crate::domain::Preprocessing;
use crate::imaging::{Picture, decode_frame, prepare};
use crate::training::run::error::TrainingError;
use crate::training::run::host::Host;

/// Pixels that go through a network at a time: eight pictures of 224 pixels. Larger batches gain
/// nothing more and take memory.
const BATCH_PIXELS: usize = 8 * 224 * 224;
/// Images that go through a network at a time, at most.
const BATCH_IMAGES: usize = 16;

/// Pictures of this side that go through a network at a time.
pub(in crate::training) fn images_at_a_time(side: usize) -> usize {
    (BATCH_PIXELS / (side * side).max(1)).clamp(1, BATCH_IMAGES)
}

/// The picture of an example as `preprocessing` has it, `[3, size, size]`.
pub(in crate::training) fn prepared(
    example: &Example,
    host: &dyn Host,
    limits: &Limits,
    preprocessing: &Preprocessing,
) -> Result<Vec<f32>, TrainingError> {
    prepare(&decoded(example, host, limits)?, None, preprocessing)
        .map_err(|error| TrainingError::Image { image: example.image, error })
}

/// The picture of an example.
pub(in crate::training) fn decoded(
    example: &Example,
    host: &dyn Host,
    limits: &Limits,
) -> Result<Picture, TrainingError> {
    let bytes = host.original(&example.blob)?;
    decode_frame(&bytes, example.frame, limits)
        .map_err(|error| TrainingError::Image { image: example.image, error })
}

#[cfg(test)]
mod tests {
    use super::images_at_a_time;

    #[test]
    fn batches_are_as_large_as_memory_allows() {
        assert_eq!(images_at_a_time(32), 16);
        assert_eq!(images_at_a_time(224), 8);
        assert_eq!(images_at_a_time(512), 1);
        assert_eq!(images_at_a_time(1024), 1);
    }
}
