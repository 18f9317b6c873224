//! Runs: what is asked, how far it is, and how it ended.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::counted::counted;
use super::evaluation::Evaluation;
use super::ids::{BackboneId, ModelId, RunId, VersionId};
use super::pretrain::{Comparison, Pretrain};
use super::training::{BadSetting, Training, outside};
pub use super::word::UnknownWord;
use super::{HeadRule, Split};

/// Where a run is in its life: `queued -> running -> succeeded | failed | cancelled`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Waiting for a worker.
    Queued,
    /// Held by a worker.
    Running,
    /// Finished; what it published is there.
    Succeeded,
    /// Ended by an error that another attempt would not mend, or out of attempts.
    Failed,
    /// Ended because somebody asked.
    Cancelled,
}

impl Status {
    /// Every status.
    pub const ALL: [Self; 5] =
        [Self::Queued, Self::Running, Self::Succeeded, Self::Failed, Self::Cancelled];

    /// The word used in JSON and SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether the run has ended for good.
    pub fn is_final(self) -> bool {
        match self {
            Self::Queued | Self::Running => false,
            Self::Succeeded | Self::Failed | Self::Cancelled => true,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Status {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or_else(|| UnknownWord::new("run status", text))
    }
}

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

/// The largest seed: every JSON reader keeps integers up to it exact (RFC 8259, section 6).
pub const MAX_SEED: u64 = (1 << 53) - 1;

/// Steps below which training hardly moves the weights of a network, at the rates that suit one.
pub const FEW_STEPS: u64 = 50;
/// Steps that `last` takes at least, on activations that are kept: they cost little.
const LEAST_STEPS: u64 = 100;
/// Steps without a better validation that are borne at least, where an epoch is a step or two.
pub const LEAST_PATIENCE: u64 = 20;

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
    /// Training images per class; all of them when absent.
    #[serde(default)]
    #[schema(minimum = 1)]
    pub shots: Option<u32>,
    /// Seed of every random choice of the run.
    #[serde(default)]
    #[schema(maximum = 9_007_199_254_740_991_u64)]
    pub seed: u64,
    /// Name of the published model; made from the dataset's and the backbone's when absent.
    #[serde(default)]
    pub name: Option<super::name::Name>,
    /// How often the whole is done, each time with another seed (`seed`, `seed + 1`, …): other
    /// training images where `shots` leaves some, another start, another order.
    #[serde(default = "once")]
    #[schema(minimum = 1, maximum = 100, default = 1)]
    pub repeats: u32,
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

    /// Passes over so many training images: as asked, and for `last` on a frozen part that is computed once
    /// an image at least so many that the head can settle. Without images to be validated by nothing would
    /// tell when it has learnt by heart, and it stays with what is asked.
    pub fn epochs(&self, images: u64, is_validated: bool) -> u32 {
        let Training { epochs, batch_size, .. } = self.training;
        let keeps = self.method == Method::Last && !self.training.varies();
        if !keeps || !is_validated || self.head.is_none() {
            return epochs;
        }
        let steps = images.div_ceil(u64::from(batch_size)).max(1);
        let least = u32::try_from(LEAST_STEPS.div_ceil(steps)).unwrap_or(epochs);
        epochs.max(least)
    }

    /// Why training on so many images can hardly change the network, where it can not: too few steps.
    pub fn too_few_steps(&self, images: u64, is_validated: bool) -> Option<String> {
        let (epochs, batch_size) = (self.epochs(images, is_validated), self.training.batch_size);
        let steps = u64::from(epochs) * images.div_ceil(u64::from(batch_size)).max(1);
        let method = match self.method {
            Method::Probe => return None,
            Method::Last | Method::Lora | Method::Full => self.method.as_str(),
        };
        (steps < FEW_STEPS).then(|| {
            format!(
                "{} and {} epochs make {}: this recipe hardly moves the weights. The method probe does \
                 as well in seconds; {method} takes at least {} epochs of so few images",
                counted(images, "training image", "training images"),
                epochs,
                counted(steps, "step", "steps"),
                FEW_STEPS.div_ceil(images.div_ceil(u64::from(batch_size)).max(1)),
            )
        })
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

/// Runs a finished run again as far as some steps, and compares the losses with the recorded ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Replay {
    /// The finished run.
    pub run: RunId,
    /// Steps to run again; for `probe`, penalties to try again.
    pub steps: u32,
    /// The recipe of that run.
    pub recipe: Finetune,
}

/// What a replay found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Replayed {
    /// Losses compared.
    pub compared: u64,
    /// Whether all of them were the same, bit for bit.
    pub equal: bool,
    /// The first step whose loss differs.
    pub first_difference: Option<Difference>,
}

/// One loss that differs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Difference {
    /// The step, from 1.
    pub step: u64,
    /// The loss on record.
    pub recorded: f64,
    /// The loss found now.
    pub found: f64,
}

/// One piece of long work, by kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Spec {
    /// Few-shot fine-tuning of a backbone on a dataset version.
    Finetune(Finetune),
    /// Self-supervised pretraining of a backbone on the images of a dataset version.
    Pretrain(Pretrain),
    /// A comparison of a finished run with what it does now.
    Replay(Replay),
}

impl Spec {
    /// The kind as a word.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Finetune(_) => "finetune",
            Self::Pretrain(_) => "pretrain",
            Self::Replay(_) => "replay",
        }
    }

    /// The fine-tuning recipe that is followed; none while pretraining.
    pub fn recipe(&self) -> Option<&Finetune> {
        match self {
            Self::Finetune(recipe) => Some(recipe),
            Self::Replay(replay) => Some(&replay.recipe),
            Self::Pretrain(_) => None,
        }
    }
}

/// How far a run is. Polling the run gives the same facts as its events.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Progress {
    /// What is being done now, for people to read: `computing features`, `training`, ….
    pub stage: String,
    /// Units done of the stage.
    pub done: u64,
    /// Units of the stage.
    pub total: u64,
    /// Share of the whole run, 0 to 1.
    pub fraction: f64,
    /// Seconds to the end of the run, estimated from its pace so far.
    pub eta_seconds: Option<f64>,
    /// Epoch of training, from 1.
    pub epoch: Option<u32>,
    /// Repeat, from 1, of a run with several.
    #[serde(default)]
    pub repeat: Option<u32>,
    /// Newest training loss.
    pub loss: Option<f64>,
    /// Images a second.
    pub images_per_second: Option<f64>,
}

/// What a run needs to be repeated, beside its spec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Provenance {
    /// Digest of the dataset version.
    pub dataset_digest: super::Sha256,
    /// SHA-256 of the weights of the backbone it starts from; none from random weights.
    pub backbone_sha256: Option<super::Sha256>,
    /// Version of the program.
    pub code_version: String,
    /// Compute threads of the worker; recorded when a worker takes the run.
    pub threads: Option<u32>,
    /// Images computed at a time, as settled when training began.
    #[serde(default)]
    pub micro_batch: Option<u32>,
}

/// A run as it is shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Run {
    /// Identifier.
    pub id: RunId,
    /// What was asked, defaults filled in.
    pub spec: Spec,
    /// What it takes to repeat it.
    pub provenance: Provenance,
    /// Where it is in its life.
    pub status: Status,
    /// How far it is.
    pub progress: Progress,
    /// Runs that a worker will take before this one; present while queued.
    pub queue_position: Option<u64>,
    /// Attempts so far; a worker that dies costs one.
    pub attempt: u32,
    /// Attempts allowed: those until the run got further than ever, and three.
    pub max_attempts: u32,
    /// Whether somebody asked for it to stop.
    pub cancel_requested: bool,
    /// Why it failed.
    pub error: Option<String>,
    /// What to know about how it was computed, such as that a later attempt adds up in another order.
    pub notices: Vec<String>,
    /// The evaluation on the test split, once finished.
    pub evaluation: Option<Evaluation>,
    /// What it found, once a replay has finished.
    pub replayed: Option<Replayed>,
    /// The model that it published, once finished.
    pub model: Option<ModelId>,
    /// The backbone that it published, once pretraining has finished.
    pub backbone: Option<BackboneId>,
    /// The frozen probe before and after pretraining, where the run was asked to judge it.
    pub comparison: Option<Comparison>,
    /// When it was queued.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When a worker first took it.
    #[serde(with = "time::serde::rfc3339::option")]
    pub started_at: Option<OffsetDateTime>,
    /// When it ended.
    #[serde(with = "time::serde::rfc3339::option")]
    pub finished_at: Option<OffsetDateTime>,
}

/// One line of a run's life; also what `GET /api/v1/runs/{id}/events` streams.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Event {
    /// Counts up from 1 within the run; the `id:` of the event stream.
    pub sequence: i64,
    /// When it happened.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// The attempt that it is of; 0 before the first. What an earlier attempt drew of a curve beyond
    /// where this one goes on is drawn anew.
    pub attempt: u32,
    /// What happened.
    #[serde(flatten)]
    pub body: EventBody,
}

/// What an event says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum EventBody {
    /// The run changed status.
    Status {
        /// The new status.
        status: Status,
        /// Why, where there is a reason.
        detail: Option<String>,
    },
    /// The run moved on.
    Progress {
        /// How far it is.
        progress: Progress,
    },
    /// One point of a metric's curve.
    Metric {
        /// Name of the series: `train_loss`, `validation_loss`, `validation_accuracy`, ….
        name: String,
        /// Where on the curve: step or epoch.
        step: u64,
        /// The value.
        value: f64,
    },
    /// Something worth reading.
    Log {
        /// The line; never holds patient data.
        message: String,
    },
}

#[cfg(test)]
mod tests {
    use super::{Finetune, HeadRule, Method, Spec};

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
    fn a_recipe_that_cannot_move_the_weights_is_told_and_repeats_that_repeat_nothing_are_refused() {
        let spec = r#"{"kind": "finetune", "dataset_version": "01890000-0000-7000-8000-000000000001",
            "backbone": "01890000-0000-7000-8000-000000000002", "method": "full", "repeats": 5}"#;
        let spec: Spec = serde_json::from_str(spec).expect("it reads");
        let mut recipe = spec.recipe().expect("a recipe").clone();

        let told = recipe.too_few_steps(10, true).expect("told");
        assert!(
            told.contains("20 steps") && told.contains("probe") && told.contains("50 epochs"),
            "{told}"
        );
        assert_eq!(recipe.too_few_steps(48, true), None);
        assert!(
            recipe.too_few_steps(20, true).is_some_and(|told| told.contains("at least 25 epochs"))
        );
        assert_eq!(recipe.validate(), []);
        recipe.method = Method::Last;
        recipe.training.fill_in(Method::Last);
        let epochs = |recipe: &Finetune| (recipe.epochs(10, true), recipe.epochs(160, true));
        assert_eq!(epochs(&recipe), (20, 20), "no head, the rule of its time");
        recipe.head = Some(HeadRule::Auto);
        assert_eq!((epochs(&recipe), recipe.epochs(10, false)), ((100, 20), 20));
        assert_eq!(recipe.too_few_steps(10, true), None);
        recipe.method = Method::Probe;
        assert_eq!(recipe.too_few_steps(10, true), None);
        assert_eq!(recipe.validate().len(), 1);
        recipe.shots = Some(5);
        assert_eq!(recipe.validate(), []);
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
