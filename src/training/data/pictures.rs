//! The pictures of a run: each original decoded once, and kept as far as there is room.

use std::path::Path;
use std::sync::Arc;

use super::cache::{Cache, Room, Use};
use super::compact::Compact;
use super::example::Example;
use crate::config::Limits;
use crate::domain::Preprocessing;
use crate::imaging::decode_frame;
use crate::training::run::error::TrainingError;
use crate::training::run::host::Host;

/// The source of pictures, and what they are prepared for.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// Gives the stored originals.
    pub host: &'a dyn Host,
    /// Limits of decoding and of the cache.
    pub limits: &'a Limits,
    /// The network's input.
    pub preprocessing: &'a Preprocessing,
    /// Folder for the cache's file.
    pub scratch: &'a Path,
}

/// The pictures of a run; shared by the threads that prepare its batches.
pub struct Pictures<'a> {
    source: Source<'a>,
    cache: Cache,
    shape: Shape,
}

/// The shape that pictures are kept in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// A square of the network's input size.
    Square,
    /// Their own, the shorter side no longer than this.
    Own(u32),
}

impl<'a> Pictures<'a> {
    /// Pictures of a source, none decoded yet.
    pub fn new(source: Source<'a>) -> Self {
        let room = Room {
            memory: source.limits.training_cache_bytes,
            file: source.limits.training_spill_bytes,
            keep_free: source.limits.free_bytes,
        };
        Self { source, cache: Cache::new(room, source.scratch), shape: Shape::Square }
    }

    /// The same in their own shapes, the shorter side scaled down to `side` pixels where it is longer.
    #[must_use]
    pub fn within(self, side: u32) -> Self {
        Self { shape: Shape::Own(side), ..self }
    }

    /// The picture of an example: from the cache, else decoded.
    pub fn get(&self, example: &Example) -> Result<Arc<Compact>, TrainingError> {
        let key = example.key();
        if let Some(kept) = self.cache.get(&key) {
            return Ok(kept);
        }
        let unreadable = |error| TrainingError::Image { image: example.image, error };
        let bytes = self.source.host.original(&example.blob)?;
        let picture =
            decode_frame(&bytes, example.frame, self.source.limits).map_err(unreadable)?;
        let compact = match self.shape {
            Shape::Square => Compact::of(&picture, self.source.preprocessing.size),
            Shape::Own(side) => Compact::within(&picture, side),
        };
        let compact = Arc::new(compact.map_err(unreadable)?);
        self.cache.put(key, &compact);
        Ok(compact)
    }

    /// The amount of them that is kept.
    pub fn used(&self) -> Use {
        self.cache.used()
    }

    /// The network's input.
    pub fn preprocessing(&self) -> &'a Preprocessing {
        self.source.preprocessing
    }

    /// Gives the stored originals.
    pub fn host(&self) -> &'a dyn Host {
        self.source.host
    }
}
