//! The recipe of a fine-tuning run.

use serde::{Deserialize, Serialize};

use crate::domain::method::Method;
use crate::domain::training::{BadSetting, Training, outside};
use crate::domain::words::ids::{BackboneId, VersionId};
use crate::domain::words::name::Name;
use crate::domain::words::seed::MAX_SEED;
use crate::domain::{HeadRule, Split};

fn once() -> u32 {
    1
}

/// The full recipe of a fine-tuning run; stored with it, so that the run can be repeated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Finetune {
    /// The frozen dataset version to learn from.
    pub dataset_version: VersionId,
    /// The backbone to start from.
    pub backbone: BackboneId,
    /// What is trained.
    pub method: Method,
    /// How the linear head on the frozen features is fitted. It is what `probe` publishes, and what
    /// `last`, `lora` and `full` start from. `auto` when absent; recipes stored before there was a
    /// choice have none, and keep the rule of their time.
    #[serde(default)]
    pub head: Option<HeadRule>,
    /// Training images per class, for a probe among those for validation too; all of them when absent.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub shots: Option<u32>,
    /// Seed of every random choice of the run.
    #[serde(default)]
    #[schema(maximum = 9_007_199_254_740_991_u64)]
    pub seed: u64,
    /// Name of the published model; made from the dataset's and the backbone's when absent.
    #[serde(default)]
    pub name: Option<Name>,
    /// How often the whole is done, each time with another seed (`seed`, `seed + 1`, …): other
    /// training images where `shots` leaves some, another start, another order.
    #[serde(default = "once")]
    #[schema(minimum = 1, maximum = 100, default = 1)]
    pub repeats: u32,
    /// Whether the evaluation also says what the same architecture with random weights reaches, with a head
    /// by the same rule: it takes as long as the frozen features do, and begins again when it is
    /// interrupted. Grey pixels are always compared with.
    #[serde(default)]
    pub random_baseline: bool,
    /// Settings of the methods `last`, `full` and `lora`; of a `probe` recorded and without effect, but
    /// for `select` where a recipe names no head. Formerly `full`.
    #[serde(default, alias = "full")]
    pub training: Training,
}

impl Finetune {
    /// Sets what is absent to what the method uses then, so that the stored recipe is whole.
    pub fn fill_in(&mut self) {
        self.head.get_or_insert_default();
        self.training.fill_in(self.method);
    }

    /// Whether validation images are learnt from: by a probe that chooses by cross-validation.
    pub fn learns_from_validation(&self) -> bool {
        self.method == Method::Probe && self.head.is_some()
    }

    /// Whether images of a split are learnt from.
    pub fn learns_from(&self, split: Split) -> bool {
        match split {
            Split::Train => true,
            Split::Validation => self.learns_from_validation(),
            Split::Test => false,
        }
    }

    /// The seed of repeat `number` (from 0): the run's own for the first, the next number for each
    /// further one.
    pub fn seed_of(&self, number: u32) -> u64 {
        (self.seed + u64::from(number)) & MAX_SEED
    }

    /// Checks the ranges; every violation is listed.
    pub fn validate(&self) -> Vec<BadSetting> {
        let mut wrong = outside(&[
            ("/shots", self.shots.map_or(1.0, f64::from), 1.0, 1e6, "1 to 1000000"),
            ("/seed", self.seed as f64, 0.0, MAX_SEED as f64, "0 to 9007199254740991"),
            ("/repeats", f64::from(self.repeats), 1.0, 100.0, "1 to 100"),
        ]);
        // A recipe without a head is one of before, which is asked for again to be replayed.
        if self.learns_from_validation() && self.repeats > 1 && self.shots.is_none() {
            wrong.push(BadSetting::DoesNotFit {
                pointer: "/repeats".to_owned(),
                detail:
                    "/repeats: every repeat of a probe on all training images learns the same; give \
                         `shots`, so that each repeat draws other images, or ask for one repeat"
                        .to_owned(),
            });
        }
        wrong.extend(self.training.validate());
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::Method;
    use crate::domain::run::Spec;

    #[test]
    fn a_recipe_stored_under_the_former_names_still_reads() {
        let stored = r#"{"kind": "finetune", "dataset_version":
            "01890000-0000-7000-8000-000000000001", "backbone":
            "01890000-0000-7000-8000-000000000002", "method": "full", "shots": 5, "seed": 3,
            "name": null, "full": {"epochs": 7, "batch_size": 8, "learning_rate": 0.001,
            "weight_decay": 0.01, "warmup": 0.1, "patience": 5, "flip": true}}"#;

        let spec: Spec = serde_json::from_str(stored).expect("it reads");

        let recipe = spec.recipe().expect("a fine-tuning recipe");
        assert_eq!((recipe.method, recipe.repeats, recipe.shots), (Method::Full, 1, Some(5)));
        assert_eq!((recipe.training.epochs, recipe.training.learning_rate), (7, Some(0.001)));
        assert_eq!(recipe.head, None, "the rule of its time");
        assert_eq!(recipe.training.augmentation().horizontal_flip, 0.5);
        let written = serde_json::to_string(&spec).expect("written");
        let again: Spec = serde_json::from_str(&written).expect("it reads");
        assert_eq!(again, spec);
    }

    #[test]
    fn what_is_absent_is_filled_in_by_the_method() {
        let filled = |method: Method| {
            let mut training = crate::domain::training::Training::default();
            training.fill_in(method);
            training
        };

        assert!(!filled(Method::Last).varies() && filled(Method::Full).varies());
        assert_eq!(filled(Method::Lora).learning_rate, Some(1e-3));
    }
}
