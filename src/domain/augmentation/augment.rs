//! The augmentation of a recipe: a preset by its word, or settings of its own.

use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::preset::Preset;
use super::{Augmentation, Violation};

/// What a recipe says of augmentation: the word of a preset, or settings of its own.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum Augment {
    /// A preset by its word.
    Preset(Preset),
    /// Settings of its own; what is not given is off.
    Own(Augmentation),
}

impl Default for Augment {
    fn default() -> Self {
        Self::Preset(Preset::None)
    }
}

impl Augment {
    /// The settings that are meant.
    pub fn settings(&self) -> Augmentation {
        match self {
            Self::Preset(preset) => preset.settings(),
            Self::Own(settings) => settings.clone(),
        }
    }

    /// Checks the ranges; every violation is listed.
    pub fn validate(&self) -> Vec<Violation> {
        match self {
            Self::Preset(_) => Vec::new(),
            Self::Own(settings) => settings.validate(),
        }
    }
}

// A derived untagged enum would say that nothing matched, and not which setting is unknown.
impl<'de> Deserialize<'de> for Augment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordOrSettings;

        impl<'de> Visitor<'de> for WordOrSettings {
            type Value = Augment;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("the word of a preset or an object of settings")
            }

            fn visit_str<E: Error>(self, word: &str) -> Result<Augment, E> {
                Preset::deserialize(StrDeserializer::new(word)).map(Augment::Preset)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Augment, A::Error> {
                let settings = Augmentation::deserialize(MapAccessDeserializer::new(map));
                settings.map(Augment::Own)
            }
        }

        deserializer.deserialize_any(WordOrSettings)
    }
}

#[cfg(test)]
mod tests {
    use super::{Augment, Augmentation, Preset};
    use crate::domain::augmentation::Rotation;

    #[test]
    fn a_recipe_names_a_preset_or_gives_its_own_settings() {
        let read = |text| serde_json::from_str::<Augment>(text).map_err(|error| error.to_string());
        let turned = Augmentation {
            rotation: Rotation { probability: 1.0, degrees: 9.0 },
            ..Augmentation::default()
        };

        assert_eq!(read("\"chest_xray\""), Ok(Augment::Preset(Preset::ChestXray)));
        let own = read("{\"rotation\": {\"probability\": 1, \"degrees\": 9}}");
        assert_eq!(own, Ok(Augment::Own(turned.clone())));
        assert!(read("\"xray\"").expect_err("refused").contains("unknown variant `xray`"));
        assert!(read("{\"flip\": 1}").expect_err("refused").contains("unknown field `flip`"));
        let written = serde_json::to_string(&Augment::Own(turned.clone())).expect("written");
        assert_eq!(read(&written), Ok(Augment::Own(turned)));
        assert_eq!(read("\"none\""), Ok(Augment::default()));
    }

    #[test]
    fn a_recipe_reads_the_same_inside_a_tagged_one() {
        #[derive(Debug, PartialEq, serde::Deserialize)]
        #[serde(tag = "kind", rename_all = "lowercase")]
        enum Tagged {
            Finetune { augmentation: Augment },
        }
        let read = |augmentation: &str| {
            let text = format!("{{\"augmentation\": {augmentation}, \"kind\": \"finetune\"}}");
            serde_json::from_str::<Tagged>(&text).map_err(|error| error.to_string())
        };

        let preset = Tagged::Finetune { augmentation: Augment::Preset(Preset::Ct) };
        let own = Tagged::Finetune { augmentation: Augment::Own(Augmentation::default()) };
        assert_eq!((read("\"ct\""), read("{}")), (Ok(preset), Ok(own)));
        assert!(read("{\"flip\": 1}").expect_err("refused").contains("unknown field `flip`"));
    }
}
