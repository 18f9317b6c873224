//! What pretraining did to a frozen probe: before, after, and whether the difference is more than
//! chance.

use serde::{Deserialize, Serialize};

use crate::domain::evaluation::Estimate;

/// Whether a pretrained backbone serves the labelled images as well as the one it started from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The whole interval of the difference is above 0.
    Better,
    /// Neither of the two.
    NotWorse,
    /// The whole interval of the difference is below 0, or the difference itself is below
    /// `-tolerance`: it is for the new backbone to show that it can be trusted.
    Worse,
}

impl Verdict {
    /// The verdict on a paired difference, `after - before`.
    pub fn of(difference: Estimate, tolerance: f64) -> Self {
        if difference.low > 0.0 {
            Self::Better
        } else if difference.high < 0.0 || difference.value < -tolerance {
            Self::Worse
        } else {
            Self::NotWorse
        }
    }

    /// The word used in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::NotWorse => "not_worse",
            Self::Worse => "worse",
        }
    }
}

/// A frozen probe before and after pretraining, judged on the same test images: the macro AUROC
/// (one class against the rest), the mean over repeats of the probe on other training images.
///
/// Intervals are 95 % percentile intervals over resampled test patients and repeats, the same draws
/// before and after, so that the interval of the difference is a paired one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Comparison {
    /// AUROC on the backbone that pretraining started from.
    pub before: Estimate,
    /// AUROC on the pretrained backbone.
    pub after: Estimate,
    /// `after - before`.
    pub difference: Estimate,
    /// The AUROC of each repeat before.
    pub before_repeats: Vec<f64>,
    /// The AUROC of each repeat after, in the same order.
    pub after_repeats: Vec<f64>,
    /// Repeats of the probe.
    pub repeats: u32,
    /// Training images per class; all of them when absent.
    pub shots: Option<u32>,
    /// Test images.
    pub images: u64,
    /// Test patients, the units of the bootstrap.
    pub patients: u64,
    /// Bootstrap resamples behind the intervals.
    pub resamples: u32,
    /// How far the difference may be below 0 before the backbone counts as worse.
    pub tolerance: f64,
    /// What follows from it.
    pub verdict: Verdict,
}

#[cfg(test)]
mod tests {
    use super::{Estimate, Verdict};

    #[test]
    fn the_verdict_follows_the_interval_and_the_burden_of_proof() {
        let cases = [
            ((0.02, 0.001, 0.04), Verdict::Better),
            ((0.02, -0.001, 0.04), Verdict::NotWorse),
            ((0.0, 0.0, 0.0), Verdict::NotWorse),
            ((-0.01, -0.02, 0.01), Verdict::NotWorse),
            ((-0.011, -0.2, 0.1), Verdict::Worse),
            ((-0.005, -0.009, -0.001), Verdict::Worse),
        ];
        for ((value, low, high), expected) in cases {
            let found = Verdict::of(Estimate { value, low, high }, 0.01);
            assert_eq!(found, expected, "{value} [{low}, {high}]");
            let word = serde_json::to_value(found).expect("a word");
            assert_eq!(word, expected.as_str());
        }
    }
}
