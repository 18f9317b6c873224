//! The effect of pretraining on a frozen probe: before, after, and whether the difference is more
//! than chance.

use serde::{Deserialize, Serialize};

use crate::domain::results::evaluation::Estimate;

/// Whether a pretrained backbone serves the labelled images as well as the one it started from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The whole interval of the difference is above 0.
    Better,
    /// Neither of the two.
    NotWorse,
    /// The whole interval of the difference is below 0, or with some number of training images it is
    /// beyond chance even though several are looked at, or the difference itself is below `-tolerance`: it is for the new backbone to show that
    /// it can be trusted.
    Worse,
}

impl Verdict {
    /// The verdict on a paired difference, `after - before`, that is the mean of those with several
    /// numbers of training images. `is_harmed`: with one of them it is below 0 beyond chance, of which
    /// there is as much in all of them together as in one interval.
    pub fn of(difference: Estimate, is_harmed: bool, tolerance: f64) -> Self {
        if is_harmed {
            Self::Worse
        } else if difference.low > 0.0 {
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

/// A frozen probe before and after pretraining with one number of training images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AtShots {
    /// Training images per class; all of them when absent, less a fifth of every class's patients in
    /// each of several repeats.
    pub shots: Option<u32>,
    /// AUROC on the backbone that pretraining started from.
    pub before: Estimate,
    /// AUROC on the pretrained backbone.
    pub after: Estimate,
    /// `after - before`.
    pub difference: Estimate,
}

/// A frozen probe before and after pretraining, judged on the same test images: the macro AUROC
/// (one class against the rest), the mean over numbers of training images and over repeats of the probe
/// on others.
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
    /// The same with each number of training images; none in comparisons of former versions, which had
    /// one.
    #[serde(default)]
    pub each: Vec<AtShots>,
    /// The AUROC of each repeat before.
    pub before_repeats: Vec<f64>,
    /// The AUROC of each repeat after, in the same order.
    pub after_repeats: Vec<f64>,
    /// Repeats of the probe with each number of training images.
    pub repeats: u32,
    /// Training images per class where there was one number of them. Absent where there were several,
    /// each of which is in `each`, and where there were all.
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
    /// What a reader of the numbers must know, such as that neither is better than guessing.
    #[serde(default)]
    pub notices: Vec<String>,
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
            let found = Verdict::of(Estimate { value, low, high }, false, 0.01);
            assert_eq!(found, expected, "{value} [{low}, {high}]");
            let word = serde_json::to_value(found).expect("a word");
            assert_eq!(word, expected.as_str());
        }
    }

    #[test]
    fn better_on_average_is_worse_where_one_number_of_images_says_so() {
        let mean = Estimate { value: 0.01, low: 0.002, high: 0.02 };

        assert_eq!(Verdict::of(mean, false, 0.01), Verdict::Better);
        assert_eq!(Verdict::of(mean, true, 0.01), Verdict::Worse);
    }
}
