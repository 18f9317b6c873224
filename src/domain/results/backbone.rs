//! Backbones: pretrained feature extractors with everything needed to use them rightly.

use std::str::FromStr;

use clap::builder::PossibleValue;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::openapi::schema::Type;
use utoipa::openapi::{ObjectBuilder, RefOr, Schema};

use super::artifact::Artifact;
use crate::domain::pretrain::Comparison;
use crate::domain::words::digest::Sha256;
use crate::domain::words::ids::{BackboneId, RunId};
use crate::domain::words::name::Name;
use crate::domain::words::word::UnknownWord;
pub use crate::nn::backbone::architecture::Architecture;

impl FromStr for Architecture {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::find(text).ok_or_else(|| UnknownWord::new("architecture", text))
    }
}

impl utoipa::PartialSchema for Architecture {
    fn schema() -> RefOr<Schema> {
        let words = Self::all().iter().map(|known| known.as_str());
        let word = ObjectBuilder::new()
            .schema_type(Type::String)
            .enum_values(Some(words))
            .description(Some("The architectures that can be imported."));
        word.into()
    }
}

impl utoipa::ToSchema for Architecture {}

impl clap::ValueEnum for Architecture {
    fn value_variants<'a>() -> &'a [Self] {
        Self::all()
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.as_str()).help(self.family().facts().title))
    }
}

/// The order in which a network expects its three input channels.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
    clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum ChannelOrder {
    /// Red first.
    Rgb,
    /// Blue first.
    Bgr,
}

/// How a picture becomes a backbone's input: `(resized / 1 − mean) / std` on intensities in `[0, 1]`,
/// the picture stretched to a square, grey repeated over three channels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Preprocessing {
    /// Side of the square input, in pixels.
    #[schema(minimum = 32, maximum = 2048)]
    pub size: u32,
    /// Channel order.
    pub channel_order: ChannelOrder,
    /// Mean of each input channel, on intensities in `[0, 1]`.
    pub mean: [f32; 3],
    /// Standard deviation of each input channel, on intensities in `[0, 1]`.
    pub std: [f32; 3],
}

/// The reason why a preprocessing cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadPreprocessing {
    /// Size outside 32..=2048 or not a multiple of what the architecture needs.
    #[error("input size {size} is not a multiple of {step} between 32 and 2048")]
    Size {
        /// The size.
        size: u32,
        /// The number that it must be a multiple of.
        step: u32,
    },
    /// A standard deviation that is zero, negative or not finite, or a mean that is not finite.
    #[error("mean and std must be finite and std above zero")]
    Moments,
}

/// Pixels of which a side must be a multiple for an architecture; where none is known yet, what some known one
/// asks for, which `side` is a multiple of if it is of any.
pub(in crate::domain) fn step_of(side: u32, architecture: Option<Architecture>) -> u32 {
    let step_of = |known: &Architecture| known.family().facts().size_step;
    match architecture {
        Some(architecture) => step_of(&architecture),
        None => {
            let mut steps = Architecture::all().iter().map(step_of);
            steps.find(|step| side.is_multiple_of(*step)).unwrap_or(32)
        }
    }
}

impl Preprocessing {
    /// 224 pixels, RGB, the ImageNet moments that LVM-Med's fine-tuning uses.
    pub fn imagenet() -> Self {
        Self {
            size: 224,
            channel_order: ChannelOrder::Rgb,
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
        }
    }

    /// Checks the ranges for an architecture; for any as long as it is not known.
    pub fn validate(&self, architecture: Option<Architecture>) -> Result<(), BadPreprocessing> {
        let (size, step) = (self.size, step_of(self.size, architecture));
        if !(32..=2048).contains(&size) || !size.is_multiple_of(step) {
            return Err(BadPreprocessing::Size { size, step });
        }
        let finite = self.mean.iter().chain(&self.std).all(|value| value.is_finite());
        if !finite || self.std.iter().any(|std| *std <= 0.0) {
            return Err(BadPreprocessing::Moments);
        }
        Ok(())
    }

    /// Names the preprocessing by what it does; part of the key of cached features.
    pub fn digest(&self) -> Sha256 {
        let mut bytes = format!("{}/{:?}", self.size, self.channel_order).into_bytes();
        for value in self.mean.iter().chain(&self.std) {
            bytes.extend(value.to_le_bytes());
        }
        Sha256::of(&bytes)
    }
}

/// How closely candle and ONNX Runtime agree on an imported backbone.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Parity {
    /// Largest absolute difference over the embedding and over the last feature map, each divided by
    /// its largest absolute value.
    pub max_relative_difference: f64,
    /// The bound it was held to.
    pub bound: f64,
}

/// Whether a backbone may be trusted to be at least as good as the one it came from.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum BackboneStage {
    /// Imported, or pretrained here and found to be no worse than its start.
    #[default]
    Approved,
    /// Pretrained here, and found worse or judged by nobody.
    Candidate,
}

impl BackboneStage {
    /// The word used in JSON and SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::Candidate => "candidate",
        }
    }
}

impl FromStr for BackboneStage {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = [Self::Approved, Self::Candidate].into_iter();
        let mut found = known.filter(|stage| stage.as_str() == text);
        found.next().ok_or_else(|| UnknownWord::new("stage of a backbone", text))
    }
}

/// Where a backbone comes from; an imported one from outside.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Origin {
    /// Whether it may be trusted.
    pub stage: BackboneStage,
    /// The backbone that pretraining started from.
    pub parent: Option<BackboneId>,
    /// The run that pretrained it.
    pub run: Option<RunId>,
    /// The frozen probe before and after pretraining, where it was judged.
    pub comparison: Option<Comparison>,
    /// The files that pretraining gave it.
    pub artifacts: Vec<Artifact>,
}

/// A pretrained feature extractor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Backbone {
    /// Identifier.
    pub id: BackboneId,
    /// Name given at import.
    pub name: Name,
    /// Architecture.
    pub architecture: Architecture,
    /// How pictures are prepared for it.
    pub preprocessing: Preprocessing,
    /// Length of the embedding.
    pub embedding_size: u32,
    /// Number of weights, running statistics not counted.
    pub parameters: u64,
    /// SHA-256 of the stored `safetensors` file.
    pub weights_sha256: Sha256,
    /// Size of the stored `safetensors` file.
    pub weights_size_bytes: u64,
    /// SHA-256 of the exported ONNX file.
    pub onnx_sha256: Sha256,
    /// SHA-256 of the file that was imported.
    pub source_sha256: Sha256,
    /// Where the weights come from.
    pub source_url: String,
    /// The licence of the weights, as given at import.
    pub license: String,
    /// What the import left out or changed, for people to read.
    pub notices: Vec<String>,
    /// The parity check made at import.
    pub parity: Parity,
    /// Where it comes from.
    #[serde(flatten)]
    pub origin: Origin,
    /// When it was imported, or pretrained.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}
