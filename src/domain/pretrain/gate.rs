//! The gate: a frozen probe on labelled images, before and after pretraining.

use serde::{Deserialize, Serialize};

use crate::domain::ids::VersionId;
use crate::domain::training::{BadSetting, outside};

/// A labelled dataset version on which the backbone is judged by a frozen probe, before and after;
/// a backbone that is worse stays a candidate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// The labelled version. The probe learns from its training images and is judged on its test
    /// images. Pretraining is never shown those, nor other images of the same patients.
    pub dataset_version: VersionId,
    /// Training images per class; all of them when absent.
    #[serde(default)]
    #[schema(minimum = 1)]
    pub shots: Option<u32>,
    /// How often the probe is trained: each time on other shots, or with all images on other folds.
    #[serde(default = "Gate::five")]
    #[schema(minimum = 1, maximum = 100, default = 5)]
    pub repeats: u32,
    /// Epochs between two probes during the run; only before and after when absent.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 1000)]
    pub every: Option<u32>,
}

impl Gate {
    fn five() -> u32 {
        5
    }

    pub(super) fn validate(&self) -> Vec<BadSetting> {
        let whole = |number: Option<u32>| number.map_or(1.0, f64::from);
        outside(&[
            ("/gate/shots", whole(self.shots), 1.0, 1e6, "1 to 1000000"),
            ("/gate/repeats", f64::from(self.repeats), 1.0, 100.0, "1 to 100"),
            ("/gate/every", whole(self.every), 1.0, 1000.0, "1 to 1000"),
        ])
    }
}
