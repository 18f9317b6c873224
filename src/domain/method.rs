//! Methods of fine-tuning: what of a network is trained.

use serde::{Deserialize, Serialize};

/// What is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// A linear classifier on frozen features: seconds, and the right first choice.
    Probe,
    /// The head and the last stages of the backbone; what the others make of an image is computed
    /// once.
    Last,
    /// Every layer of the backbone and the head.
    Full,
    /// Low-rank matrices added to the attention of a ViT, and the head; the backbone stays.
    Lora,
}

impl Method {
    /// Every method, cheapest first.
    pub const ALL: [Self; 4] = [Self::Probe, Self::Last, Self::Lora, Self::Full];

    /// The word used in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Probe => "probe",
            Self::Last => "last",
            Self::Full => "full",
            Self::Lora => "lora",
        }
    }
}
