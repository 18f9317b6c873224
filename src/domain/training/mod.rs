//! Settings of the methods that train a network by gradients: `last`, `full` and `lora`.

mod choices;

use serde::{Deserialize, Serialize};

pub use choices::{Optimiser, Schedule, Selection, Statistics};

use super::Architecture;
use super::augmentation::{Augment, Augmentation, Preset, Violation};
use super::imbalance::{Imbalance, Mixup};
use super::method::Method;

/// Below this many training images the statistics of a batch are too noisy to follow.
pub const IMAGES_FOR_BATCH_STATISTICS: u64 = 256;

/// Settings of `last`, `full` and `lora`; `probe` has none. A setting that a method does not use is
/// recorded and changes nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Training {
    /// Passes over the training images, at most; `last` without augmentation makes a hundred steps at
    /// least where there are validation images: on a frozen part that is kept they cost little.
    #[schema(minimum = 1, maximum = 1000)]
    pub epochs: u32,
    /// Images in a step of the optimiser.
    #[schema(minimum = 1, maximum = 1024)]
    pub batch_size: u32,
    /// Images computed at a time; their gradients are added up to those of the batch. Chosen from
    /// the memory there is when absent.
    #[schema(minimum = 1, maximum = 1024)]
    pub micro_batch: Option<u32>,
    /// `last`: how many of the last stages (of a ResNet, of 4) or blocks (of a ViT) are trained.
    #[schema(minimum = 1, maximum = 100)]
    pub stages: u32,
    /// `lora`: rank of the added matrices.
    #[schema(minimum = 1, maximum = 256)]
    pub rank: u32,
    /// `lora`: the added product is scaled by `alpha / rank`.
    #[schema(minimum = 1e-6, maximum = 1024.0)]
    pub alpha: f64,
    /// What moves the weights.
    pub optimiser: Optimiser,
    /// Peak learning rate. When absent, 1e-4 for `full`, 3e-4 for `last` and 1e-3 for `lora`.
    #[schema(minimum = 1e-9, maximum = 1.0)]
    pub learning_rate: Option<f64>,
    /// Weight decay of tensors with two or more dimensions.
    #[schema(minimum = 0.0, maximum = 1.0)]
    pub weight_decay: f64,
    /// How the learning rate goes over the run.
    pub schedule: Schedule,
    /// `cosine`: share of all steps that warm the learning rate up.
    #[schema(minimum = 0.0, maximum = 1.0)]
    pub warmup: f64,
    /// `plateau`: epochs without a lower validation loss that are borne before the learning rate falls.
    #[schema(minimum = 1, maximum = 1000)]
    pub plateau_patience: u32,
    /// Learning rate of a stage (of a ViT: block) over that of the one after it; 1 trains all alike.
    #[schema(minimum = 0.01, maximum = 1.0)]
    pub layer_decay: f64,
    /// Largest norm of all gradients together; longer ones are shortened to it. 0 leaves them.
    #[schema(minimum = 0.0, maximum = 1_000_000.0)]
    pub clip_norm: f64,
    /// Share of the target that is spread over all classes.
    #[schema(minimum = 0.0, exclusive_maximum = 1.0)]
    pub label_smoothing: f64,
    /// What is done about classes of unequal size.
    pub imbalance: Imbalance,
    /// How training pictures are varied: a preset, or settings of its own. When absent, `general`
    /// for `full` and `lora`; `last` varies nothing, so that the frozen part is computed once an
    /// image.
    pub augment: Option<Augment>,
    /// Training on mixtures of two images and of their labels; none when absent.
    pub mixup: Option<Mixup>,
    /// Share of the old average that the moving average of the weights keeps at each step; the
    /// average is then what is validated and published. 0 keeps no average.
    #[schema(minimum = 0.0, exclusive_maximum = 1.0)]
    pub ema_decay: f64,
    /// Epochs without a better validation before stopping; twenty steps at least.
    #[schema(minimum = 1, maximum = 1000)]
    pub patience: u32,
    /// What the best epoch, and the best of several repeats, is chosen by.
    pub select: Selection,
    /// Minutes of training, shared alike among the repeats; the run then ends with the best so far.
    #[schema(minimum = 0.001, maximum = 100_000.0)]
    pub max_minutes: Option<f64>,
    /// Which statistics batch normalisation uses.
    pub batch_norm: Statistics,
    /// Seconds between two checkpoints within an epoch.
    #[schema(minimum = 1, maximum = 86400)]
    pub checkpoint_seconds: u32,
    /// Formerly the only augmentation: mirrors images left to right with probability one half.
    /// `augment` takes its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(deprecated)]
    pub flip: Option<bool>,
}

impl Default for Training {
    fn default() -> Self {
        Self {
            epochs: 20,
            batch_size: 16,
            micro_batch: None,
            stages: 1,
            rank: 8,
            alpha: 16.0,
            optimiser: Optimiser::default(),
            learning_rate: None,
            weight_decay: 1e-2,
            schedule: Schedule::default(),
            warmup: 0.1,
            plateau_patience: 3,
            layer_decay: 1.0,
            clip_norm: 1.0,
            label_smoothing: 0.0,
            imbalance: Imbalance::default(),
            augment: None,
            mixup: None,
            ema_decay: 0.0,
            patience: 5,
            select: Selection::default(),
            max_minutes: None,
            batch_norm: Statistics::default(),
            checkpoint_seconds: 60,
            flip: None,
        }
    }
}

/// The reason why settings cannot be used.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum BadSetting {
    /// A number outside its range.
    #[error("{pointer}: {value} is outside {range}")]
    OutOfRange {
        /// JSON pointer of the setting.
        pointer: &'static str,
        /// The value that was given.
        value: f64,
        /// The range that is allowed.
        range: &'static str,
    },
    /// A setting that the architecture or another setting rules out.
    #[error("{detail}")]
    DoesNotFit {
        /// JSON pointer of the setting.
        pointer: String,
        /// The fault, and the setting that would be right.
        detail: String,
    },
}

impl BadSetting {
    /// JSON pointer of the setting.
    pub fn pointer(&self) -> &str {
        match self {
            Self::OutOfRange { pointer, .. } => pointer,
            Self::DoesNotFit { pointer, .. } => pointer,
        }
    }
}

impl Training {
    /// The peak learning rate.
    pub fn peak(&self, method: Method) -> f64 {
        self.learning_rate.unwrap_or(match method {
            Method::Probe | Method::Full => 1e-4,
            Method::Last => 3e-4,
            Method::Lora => 1e-3,
        })
    }

    /// The settings by which training pictures are varied.
    pub fn augmentation(&self) -> Augmentation {
        match (&self.augment, self.flip) {
            (Some(augment), _) => augment.settings(),
            (None, Some(true)) => Augmentation { horizontal_flip: 0.5, ..Augmentation::default() },
            (None, Some(false) | None) => Augmentation::default(),
        }
    }

    /// Whether an image is shown otherwise each time: varied, or mixed with others.
    pub fn varies(&self) -> bool {
        self.augmentation() != Augmentation::default() || self.mixup.is_some()
    }

    /// Sets what is absent to what `method` uses then, so that it is recorded.
    pub fn fill_in(&mut self, method: Method) {
        self.learning_rate = Some(self.peak(method));
        let absent = match (method, self.flip) {
            (_, Some(true)) => Augment::Own(self.augmentation()),
            (Method::Full | Method::Lora, None) => Augment::Preset(Preset::General),
            (Method::Probe | Method::Last, None) | (_, Some(false)) => Augment::default(),
        };
        self.augment.get_or_insert(absent);
        self.flip = None;
    }

    /// Checks the ranges; every violation is listed.
    pub fn validate(&self) -> Vec<BadSetting> {
        let whole = |number: u32| f64::from(number);
        // A bound that is not itself allowed is told by the smallest or largest number beside it.
        let below_one = 1.0 - f64::EPSILON;
        let checks = [
            ("/training/epochs", whole(self.epochs), 1.0, 1000.0, "1 to 1000"),
            ("/training/batch_size", whole(self.batch_size), 1.0, 1024.0, "1 to 1024"),
            (
                "/training/micro_batch",
                self.micro_batch.map_or(1.0, whole),
                1.0,
                1024.0,
                "1 to 1024",
            ),
            ("/training/stages", whole(self.stages), 1.0, 100.0, "1 to 100"),
            ("/training/rank", whole(self.rank), 1.0, 256.0, "1 to 256"),
            ("/training/alpha", self.alpha, 1e-6, 1024.0, "1e-6 to 1024"),
            ("/training/learning_rate", self.learning_rate.unwrap_or(1.0), 1e-9, 1.0, "1e-9 to 1"),
            ("/training/weight_decay", self.weight_decay, 0.0, 1.0, "0 to 1"),
            ("/training/warmup", self.warmup, 0.0, 1.0, "0 to 1"),
            ("/training/plateau_patience", whole(self.plateau_patience), 1.0, 1e3, "1 to 1000"),
            ("/training/layer_decay", self.layer_decay, 0.01, 1.0, "0.01 to 1"),
            ("/training/clip_norm", self.clip_norm, 0.0, 1e6, "0 to 1000000"),
            ("/training/label_smoothing", self.label_smoothing, 0.0, below_one, "0 to below 1"),
            ("/training/ema_decay", self.ema_decay, 0.0, below_one, "0 to below 1"),
            ("/training/patience", whole(self.patience), 1.0, 1000.0, "1 to 1000"),
            (
                "/training/max_minutes",
                self.max_minutes.unwrap_or(1.0),
                1e-3,
                1e5,
                "0.001 to 100000",
            ),
            (
                "/training/checkpoint_seconds",
                whole(self.checkpoint_seconds),
                1.0,
                86400.0,
                "1 to 86400",
            ),
        ];
        let mut wrong = outside(&checks);
        let of = |start: &'static str, found: Vec<Violation>| {
            found.into_iter().map(move |found| BadSetting::DoesNotFit {
                pointer: format!("{start}{}", found.pointer),
                detail: format!("{start}{found}"),
            })
        };
        wrong.extend(of(
            "/training/augment",
            self.augment.iter().flat_map(Augment::validate).collect(),
        ));
        wrong.extend(of("/training/mixup", self.mixup.iter().flat_map(Mixup::validate).collect()));
        wrong
    }

    /// The settings that do not fit: what `method` would need of a network of this architecture and
    /// does not find.
    pub fn misfits(&self, method: Method, architecture: Architecture) -> Vec<BadSetting> {
        let mut found = Vec::new();
        if method == Method::Lora && !architecture.has_attention() {
            let detail = format!(
                "the method lora adds matrices to the attention of a ViT; {architecture} has no \
                 attention. Choose probe, last or full"
            );
            found.push(BadSetting::DoesNotFit { pointer: "/method".to_owned(), detail });
        }
        let most = architecture.stages();
        if method == Method::Last && self.stages as usize > most {
            let detail = format!(
                "{architecture} has {most} stages; the last {} of them cannot be trained",
                self.stages
            );
            found.push(BadSetting::DoesNotFit { pointer: "/training/stages".to_owned(), detail });
        }
        found
    }
}

/// One check: pointer, value, lowest, highest, and the range in words.
pub(super) type Check = (&'static str, f64, f64, f64, &'static str);

/// The checks that fail; no number is in no range.
pub(super) fn outside(checks: &[Check]) -> Vec<BadSetting> {
    checks
        .iter()
        .filter(|(_, value, low, high, _)| !(low..=high).contains(&value))
        .map(|&(pointer, value, _, _, range)| BadSetting::OutOfRange { pointer, value, range })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Training, outside};
    use crate::domain::Architecture;
    use crate::domain::method::Method;

    #[test]
    fn the_defaults_are_in_range_and_every_violation_is_told_with_its_pointer() {
        let wrong = Training {
            epochs: 0,
            learning_rate: Some(f64::NAN),
            ema_decay: 1.0,
            ..Training::default()
        };

        let violations = wrong.validate();
        let pointers: Vec<_> = violations.iter().map(super::BadSetting::pointer).collect();

        assert_eq!(Training::default().validate(), []);
        let expected = ["/training/epochs", "/training/learning_rate", "/training/ema_decay"];
        assert_eq!(pointers, expected);
        assert_eq!(outside(&[("/a", 1.0, 0.0, 1.0, "0 to 1")]), []);
    }

    #[test]
    fn methods_are_refused_where_they_do_not_fit() {
        let training = Training { stages: 5, ..Training::default() };
        let pointers = |method| {
            let misfits = training.misfits(method, Architecture::RESNET18);
            misfits.iter().map(|found| found.pointer().to_owned()).collect::<Vec<_>>()
        };

        assert_eq!(pointers(Method::Full), Vec::<String>::new());
        assert_eq!(pointers(Method::Last), ["/training/stages"]);
        assert_eq!(pointers(Method::Lora), ["/method"]);
        assert_eq!(training.misfits(Method::Lora, Architecture::SAM_VIT_B), []);
    }
}
