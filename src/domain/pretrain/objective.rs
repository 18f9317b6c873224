//! The objectives that learn from the views: LVM-Med's graph matching, and the methods it is compared
//! with.

use serde::{Deserialize, Serialize};

use super::Matching;
use crate::domain::training::{BadSetting, outside};

/// What is learnt from the views.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Objective {
    /// LVM-Med's second-order graph matching (Nguyen et al. 2023).
    Matching(Matching),
    /// SimCLR (Chen et al. 2020).
    Simclr(SimClr),
    /// Barlow Twins (Zbontar et al. 2021).
    BarlowTwins(Barlow),
    /// VICRegL (Bardes et al. 2022).
    Vicregl(Vicregl),
    /// MoCo v2 (Chen et al. 2020).
    MocoV2(Moco),
    /// DINO (Caron et al. 2021).
    Dino(Dino),
}

impl Default for Objective {
    fn default() -> Self {
        Self::Matching(Matching::default())
    }
}

impl Objective {
    /// One of every kind, with its default settings.
    pub fn of_every_kind() -> [Self; 6] {
        [
            Self::Matching(Matching::default()),
            Self::Simclr(SimClr::default()),
            Self::BarlowTwins(Barlow::default()),
            Self::Vicregl(Vicregl::default()),
            Self::MocoV2(Moco::default()),
            Self::Dino(Dino::default()),
        ]
    }

    /// The word used in JSON.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Matching(_) => "matching",
            Self::Simclr(_) => "simclr",
            Self::BarlowTwins(_) => "barlow_twins",
            Self::Vicregl(_) => "vicregl",
            Self::MocoV2(_) => "moco_v2",
            Self::Dino(_) => "dino",
        }
    }

    /// Whether small crops are part of the method.
    pub fn sees_small_crops(&self) -> bool {
        match self {
            Self::Matching(_) | Self::Vicregl(_) | Self::Dino(_) => true,
            Self::Simclr(_) | Self::BarlowTwins(_) | Self::MocoV2(_) => false,
        }
    }

    pub(super) fn validate(&self, batch_size: u32) -> Vec<BadSetting> {
        let channels = |hidden: u32, output: u32| {
            vec![
                ("/objective/hidden", f64::from(hidden), 2.0, 16384.0, "2 to 16384"),
                ("/objective/output", f64::from(output), 2.0, 65536.0, "2 to 65536"),
            ]
        };
        let temperature = |value| ("/objective/temperature", value, 1e-3, 10.0, "0.001 to 10");
        let momentum = |value| ("/objective/momentum", value, 0.0, 1.0, "0 to 1");
        let mut checks = match self {
            Self::Matching(matching) => return matching.validate(batch_size),
            Self::Simclr(it) => channels(it.hidden, it.output),
            Self::BarlowTwins(it) => channels(it.hidden, it.output),
            Self::Vicregl(it) => channels(it.hidden, it.output),
            Self::MocoV2(it) => channels(it.hidden, it.output),
            Self::Dino(it) => channels(it.hidden, it.output),
        };
        match self {
            Self::Matching(_) => {}
            Self::Simclr(it) => checks.push(temperature(it.temperature)),
            Self::BarlowTwins(it) => {
                checks.push(("/objective/redundancy", it.redundancy, 0.0, 10.0, "0 to 10"));
            }
            Self::Vicregl(it) => checks.extend([
                ("/objective/alpha", it.alpha, 0.0, 1.0, "0 to 1"),
                ("/objective/gamma", f64::from(it.gamma), 1.0, 4096.0, "1 to 4096"),
                ("/objective/invariance", it.invariance, 0.0, 1e3, "0 to 1000"),
                ("/objective/variance", it.variance, 0.0, 1e3, "0 to 1000"),
                ("/objective/covariance", it.covariance, 0.0, 1e3, "0 to 1000"),
            ]),
            Self::MocoV2(it) => checks.extend([
                temperature(it.temperature),
                momentum(it.momentum),
                ("/objective/queue", f64::from(it.queue), 16.0, 1_048_576.0, "16 to 1048576"),
            ]),
            Self::Dino(it) => checks.extend([
                temperature(it.temperature),
                momentum(it.momentum),
                (
                    "/objective/teacher_temperature",
                    it.teacher_temperature,
                    1e-3,
                    10.0,
                    "0.001 to 10",
                ),
                ("/objective/centre_momentum", it.centre_momentum, 0.0, 1.0, "0 to 1"),
                ("/objective/bottleneck", f64::from(it.bottleneck), 2.0, 16384.0, "2 to 16384"),
            ]),
        }
        outside(&checks)
    }
}

/// SimCLR: the normalised temperature-scaled cross-entropy (Eq. 1 of its paper).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SimClr {
    /// Channels between the projector's two layers.
    pub hidden: u32,
    /// Channels of the projection.
    pub output: u32,
    /// Temperature of the softmax over cosine similarities.
    pub temperature: f64,
}

impl Default for SimClr {
    fn default() -> Self {
        Self { hidden: 2048, output: 128, temperature: 0.1 }
    }
}

/// Barlow Twins: the cross-correlation of two views is drawn to the identity (Eq. 1 and 2).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Barlow {
    /// Channels between the projector's three layers.
    pub hidden: u32,
    /// Channels of the projection.
    pub output: u32,
    /// Weight of the off-diagonal entries.
    pub redundancy: f64,
}

impl Default for Barlow {
    fn default() -> Self {
        Self { hidden: 2048, output: 2048, redundancy: 5e-3 }
    }
}

/// VICRegL: variance, invariance and covariance of whole views and of matched cells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Vicregl {
    /// Channels between the projectors' layers.
    pub hidden: u32,
    /// Channels of the projections.
    pub output: u32,
    /// Share of the global criterion.
    pub alpha: f64,
    /// Closest pairs of cells kept by location.
    pub gamma: u32,
    /// Weight of the invariance term.
    pub invariance: f64,
    /// Weight of the variance term.
    pub variance: f64,
    /// Weight of the covariance term.
    pub covariance: f64,
}

impl Default for Vicregl {
    fn default() -> Self {
        Self {
            hidden: 2048,
            output: 2048,
            alpha: 0.75,
            gamma: 20,
            invariance: 25.0,
            variance: 25.0,
            covariance: 1.0,
        }
    }
}

/// MoCo v2: contrast with a queue of what a slowly moving teacher made of earlier images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Moco {
    /// Channels between the projector's two layers.
    pub hidden: u32,
    /// Channels of the projection.
    pub output: u32,
    /// Temperature of the softmax over cosine similarities.
    pub temperature: f64,
    /// Share of itself that the teacher keeps at each step.
    pub momentum: f64,
    /// Keys in the queue.
    pub queue: u32,
}

impl Default for Moco {
    fn default() -> Self {
        Self { hidden: 2048, output: 128, temperature: 0.2, momentum: 0.999, queue: 65536 }
    }
}

/// DINO: a student predicts what a slowly moving, centred and sharpened teacher makes of a view.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Dino {
    /// Channels between the head's layers.
    pub hidden: u32,
    /// Channels before the last, weight-normalised layer.
    pub bottleneck: u32,
    /// Prototypes.
    pub output: u32,
    /// Temperature of the student.
    pub temperature: f64,
    /// Temperature of the teacher.
    pub teacher_temperature: f64,
    /// Share of itself that the teacher keeps at the first step; rises to 1 along a cosine.
    pub momentum: f64,
    /// Share of itself that the centre keeps at each step.
    pub centre_momentum: f64,
}

impl Default for Dino {
    fn default() -> Self {
        Self {
            hidden: 2048,
            bottleneck: 256,
            output: 4096,
            temperature: 0.1,
            teacher_temperature: 0.04,
            momentum: 0.996,
            centre_momentum: 0.9,
        }
    }
}
