//! An architecture by its word: what its family says of it.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};

use crate::nn::backbone::family::{Family, Place};

/// A network architecture that is known here.
#[derive(Clone, Copy)]
pub struct Architecture(&'static dyn Family);

impl Architecture {
    /// The architecture that `family` describes.
    pub const fn of(family: &'static dyn Family) -> Self {
        Self(family)
    }

    /// Its description.
    pub fn family(self) -> &'static dyn Family {
        self.0
    }

    /// The word used in JSON, SQL and on the command line.
    pub fn as_str(self) -> &'static str {
        self.0.facts().word
    }

    /// Stages that the network can be cut between (blocks of a transformer): those that can be trained
    /// apart from the rest.
    pub fn stages(self) -> usize {
        self.0.facts().stages
    }

    /// Whether a tensor of this name belongs to the last `stages` stages.
    pub fn is_in_tail(self, name: &str, stages: usize) -> bool {
        let first = self.stages().saturating_sub(stages);
        match self.0.place(name) {
            Some(Place::Stage(stage)) => stage >= first,
            Some(Place::Top) => stages > 0,
            Some(Place::Stem | Place::Map) | None => false,
        }
    }

    /// Whether a tensor of this name leads to the feature map and not to the embedding.
    pub fn is_of_map(self, name: &str) -> bool {
        self.0.place(name) == Some(Place::Map)
    }

    /// Length of the embedding.
    pub fn embedding_size(self) -> usize {
        self.0.facts().embedding_size
    }

    /// Channels of the feature map.
    pub fn map_channels(self) -> usize {
        self.0.facts().map_channels
    }

    /// Whether it has normalisation by statistics of its batches.
    pub fn has_batch_norm(self) -> bool {
        self.0.facts().has_batch_norm
    }

    /// Whether it has attention layers, which low-rank factors are added to.
    pub fn has_attention(self) -> bool {
        self.0.facts().has_attention
    }

    /// Every tensor's name and shape: no classifier, no `num_batches_tracked`.
    pub fn tensors(self) -> BTreeMap<String, Vec<usize>> {
        self.0.tensors()
    }
}

impl fmt::Debug for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl PartialEq for Architecture {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Architecture {}

impl Hash for Architecture {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}
