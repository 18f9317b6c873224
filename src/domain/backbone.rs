//! Backbones: pretrained feature extractors with everything needed to use them rightly.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::ids::{BackboneId, RunId};
use super::model::Artifact;
use super::pretrain::Comparison;
use super::run::UnknownWord;
use super::{Sha256, name::Name};

/// The architectures that can be imported.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
    clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// ResNet-18.
    #[value(name = "resnet18")]
    Resnet18,
    /// ResNet-34.
    #[value(name = "resnet34")]
    Resnet34,
    /// ResNet-50, the architecture of `lvmmed_resnet.torch`.
    #[value(name = "resnet50")]
    Resnet50,
    /// ResNet-101.
    #[value(name = "resnet101")]
    Resnet101,
    /// ResNet-152.
    #[value(name = "resnet152")]
    Resnet152,
    /// SAM's ViT-B image encoder, the architecture of `lvmmed_vit.pth`.
    #[value(name = "sam_vit_b")]
    #[serde(rename = "sam_vit_b")]
    SamVitB,
}

impl Architecture {
    /// Every architecture, smallest first.
    pub const ALL: [Self; 6] = [
        Self::Resnet18,
        Self::Resnet34,
        Self::Resnet50,
        Self::Resnet101,
        Self::Resnet152,
        Self::SamVitB,
    ];

    /// The word used in JSON, SQL and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Resnet18 => "resnet18",
            Self::Resnet34 => "resnet34",
            Self::Resnet50 => "resnet50",
            Self::Resnet101 => "resnet101",
            Self::Resnet152 => "resnet152",
            Self::SamVitB => "sam_vit_b",
        }
    }

    /// Stages that a network can be cut between (blocks of a transformer): those that can be
    /// trained apart from the rest.
    pub fn stages(self) -> usize {
        match self {
            Self::Resnet18
            | Self::Resnet34
            | Self::Resnet50
            | Self::Resnet101
            | Self::Resnet152 => 4,
            Self::SamVitB => 12,
        }
    }

    /// Whether a tensor of this name belongs to the last `stages` stages.
    pub fn is_in_tail(self, name: &str, stages: usize) -> bool {
        let first = self.stages().saturating_sub(stages);
        match self {
            Self::Resnet18
            | Self::Resnet34
            | Self::Resnet50
            | Self::Resnet101
            | Self::Resnet152 => {
                (first..4).any(|stage| name.starts_with(&format!("layer{}.", stage + 1)))
            }
            Self::SamVitB => (first..12).any(|block| name.starts_with(&format!("blocks.{block}."))),
        }
    }

    /// Length of the embedding: the channels of the last stage, or those of a token.
    pub fn embedding_size(self) -> usize {
        match self {
            Self::Resnet18 | Self::Resnet34 => 512,
            Self::Resnet50 | Self::Resnet101 | Self::Resnet152 => 2048,
            Self::SamVitB => 768,
        }
    }

    /// Channels of the feature map.
    pub fn map_channels(self) -> usize {
        match self {
            Self::Resnet18
            | Self::Resnet34
            | Self::Resnet50
            | Self::Resnet101
            | Self::Resnet152 => self.embedding_size(),
            Self::SamVitB => 256,
        }
    }

    /// Pixels of the input that a step on the feature map stands for.
    pub fn map_stride(self) -> usize {
        match self {
            Self::Resnet18
            | Self::Resnet34
            | Self::Resnet50
            | Self::Resnet101
            | Self::Resnet152 => 32,
            Self::SamVitB => 16,
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Architecture {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|architecture| architecture.as_str() == text)
            .ok_or_else(|| UnknownWord::new("architecture", text))
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

/// Why a preprocessing cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadPreprocessing {
    /// Size outside 32..=2048 or not a multiple of 32.
    #[error("input size {0} is not a multiple of 32 between 32 and 2048")]
    Size(u32),
    /// A standard deviation that is zero, negative or not finite, or a mean that is not finite.
    #[error("mean and std must be finite and std above zero")]
    Moments,
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

    /// Checks the ranges.
    pub fn validate(&self) -> Result<(), BadPreprocessing> {
        if !(32..=2048).contains(&self.size) || !self.size.is_multiple_of(32) {
            return Err(BadPreprocessing::Size(self.size));
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
