//! The architectures that are known, of every family.

use std::borrow::Cow;
use std::sync::LazyLock;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::nn::backbone::architecture::Architecture;
use crate::nn::backbone::each_family;

macro_rules! layouts {
    ($($family:ident),*) => {
        [$(crate::nn::backbone::$family::KNOWN),*]
    };
}

/// Those of each family.
const FAMILIES: &[&[Architecture]] = &each_family!(layouts);

static ALL: LazyLock<Vec<Architecture>> =
    LazyLock::new(|| FAMILIES.iter().copied().flatten().copied().collect());

impl Architecture {
    /// Every architecture, family by family, smallest first.
    pub fn all() -> &'static [Self] {
        &ALL
    }

    /// The architecture of this word.
    pub fn find(word: &str) -> Option<Self> {
        Self::all().iter().copied().find(|architecture| architecture.as_str() == word)
    }

    /// The words of all architectures, with commas between them.
    pub fn words() -> String {
        Self::all().iter().map(|known| known.as_str()).collect::<Vec<_>>().join(", ")
    }
}

impl Serialize for Architecture {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Architecture {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = Cow::<str>::deserialize(deserializer)?;
        Self::find(&word).ok_or_else(|| {
            let expected = Self::words();
            D::Error::custom(format_args!(
                "unknown architecture `{word}`, expected one of {expected}"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::Architecture;
    use crate::nn::backbone::family::Place;

    #[test]
    fn every_word_stands_for_one_architecture() {
        let words: BTreeSet<&str> =
            Architecture::all().iter().map(|known| known.as_str()).collect();

        assert_eq!(words.len(), Architecture::all().len());
        assert_eq!(Architecture::find("resnet50"), Some(Architecture::RESNET50));
        assert_eq!(Architecture::find("resnet51"), None);
    }

    #[test]
    fn every_tensor_has_a_place_and_every_stage_tensors() {
        for architecture in Architecture::all() {
            let facts = architecture.family().facts();
            let names = architecture.tensors();
            let place = |name: &String| architecture.family().place(name);
            let stages: BTreeSet<usize> = names
                .keys()
                .filter_map(|name| match place(name).expect("a place") {
                    Place::Stage(stage) => Some(stage),
                    Place::Stem | Place::Top | Place::Map => None,
                })
                .collect();

            assert_eq!(stages, (0..facts.stages).collect(), "{architecture}");
            assert_eq!(architecture.family().place("fc.weight"), None);
            assert!(224 % facts.size_step == 0, "{architecture} has no input of 224 pixels");
        }
    }
}
