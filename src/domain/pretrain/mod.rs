//! Pretraining on unlabelled images: what a run of kind `pretrain` is asked for.

mod comparison;
mod cost;
mod gate;
mod matching;
mod objective;
mod schedule;
mod views;

use serde::{Deserialize, Serialize};

pub use comparison::{AtShots, Comparison, Verdict};
pub use cost::{Amounts, BatchTooLarge, Network};
pub use gate::Gate;
pub use matching::{
    Convolution, DegreeNorm, Hamming, Local, Matching, MatchingPreset, Mode, Noise,
};
pub use objective::{Barlow, Dino, Moco, Objective, SimClr, Vicregl};
pub use schedule::{Learning, Pace};
pub use views::Views;

use super::training::{BadSetting, outside};
use super::{Architecture, Backbone, Preprocessing};
use crate::domain::words::ids::{BackboneId, VersionId};
use crate::domain::words::name::Name;
use crate::domain::words::seed::MAX_SEED;

/// The full recipe of a pretraining run; stored with it, so that the run can be repeated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Pretrain {
    /// The frozen dataset version whose images are learnt from. Its labels are not used; shown is every
    /// image that is neither in its test split nor of a patient whom the gate tests.
    pub dataset_version: VersionId,
    /// The backbone to start from; random weights when absent.
    #[serde(default)]
    pub backbone: Option<BackboneId>,
    /// The network of a start from random weights; needs `backbone` to be absent.
    #[serde(default)]
    pub architecture: Option<Architecture>,
    /// Seed of every random choice of the run.
    #[serde(default)]
    #[schema(maximum = 9_007_199_254_740_991_u64)]
    pub seed: u64,
    /// Name of the backbone that the run publishes; made from the parent's and the dataset's when
    /// absent.
    #[serde(default)]
    pub name: Option<Name>,
    /// What is learnt from the views.
    #[serde(default)]
    pub objective: Objective,
    /// How views are made of an image.
    #[serde(default)]
    pub views: Views,
    /// Steps, rates and time.
    #[serde(default)]
    pub learning: Learning,
    /// A labelled dataset version on which the backbone is judged before and after.
    #[serde(default)]
    pub gate: Option<Gate>,
}

impl Pretrain {
    /// The network that learns and how pictures enter it, given the backbone that is asked for; none
    /// without that and without an architecture. A network made here is used at the size it has learnt
    /// at.
    pub fn network(&self, parent: Option<&Backbone>) -> Option<(Architecture, Preprocessing)> {
        if let Some(parent) = parent {
            return Some((parent.architecture, parent.preprocessing.clone()));
        }
        let mut preprocessing = Preprocessing::imagenet();
        preprocessing.size = self.views.size.unwrap_or(preprocessing.size);
        Some((self.architecture?, preprocessing))
    }

    /// Checks the ranges; every violation is listed.
    pub fn validate(&self) -> Vec<BadSetting> {
        let mut wrong =
            outside(&[("/seed", self.seed as f64, 0.0, MAX_SEED as f64, "0 to 9007199254740991")]);
        if self.backbone.is_some() == self.architecture.is_some() {
            let detail =
                "give either a backbone to start from or an architecture that starts from \
                          random weights"
                    .to_owned();
            wrong.push(BadSetting::DoesNotFit { pointer: "/backbone".to_owned(), detail });
        }
        if self.views.small_crops > 0 && !self.objective.sees_small_crops() {
            let detail = format!(
                "{} makes nothing of small crops; leave them out, or choose matching, vicregl or dino",
                self.objective.as_str()
            );
            wrong.push(BadSetting::DoesNotFit { pointer: "/views/small_crops".to_owned(), detail });
        }
        wrong.extend(self.objective.validate(self.learning.batch_size));
        wrong.extend(self.views.validate());
        wrong.extend(self.learning.validate());
        wrong.extend(self.gate.iter().flat_map(Gate::validate));
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::{BadSetting, Objective, Pretrain};

    fn recipe(json: &str) -> Pretrain {
        serde_json::from_str(json).expect("a recipe")
    }

    #[test]
    fn the_defaults_are_those_of_the_paper_and_in_range() {
        let found = recipe(
            r#"{"dataset_version": "01890000-0000-7000-8000-000000000001",
                "architecture": "resnet18"}"#,
        );

        assert_eq!(found.validate(), []);
        let Objective::Matching(matching) = &found.objective else { panic!("another objective") };
        assert_eq!((matching.nodes, matching.neighbours, matching.lambda), (16, 5, 80.0));
        let written = serde_json::to_string(&found).expect("written");
        assert_eq!(recipe(&written), found);
    }

    #[test]
    fn every_violation_is_told_with_its_pointer() {
        let found = recipe(
            r#"{"dataset_version": "01890000-0000-7000-8000-000000000001",
                "objective": {"kind": "matching", "nodes": 1, "alpha": 2.0},
                "views": {"min_area": 0.9, "max_area": 0.5},
                "learning": {"batch_size": 0},
                "gate": {"dataset_version": "01890000-0000-7000-8000-000000000001", "repeats": 0}}"#,
        );

        let violations = found.validate();
        let pointers: Vec<&str> = violations.iter().map(BadSetting::pointer).collect();
        for pointer in [
            "/backbone",
            "/objective/nodes",
            "/objective/alpha",
            "/views/min_area",
            "/learning/batch_size",
            "/gate/repeats",
        ] {
            assert!(pointers.contains(&pointer), "{pointer} is not among {pointers:?}");
        }
    }
}
