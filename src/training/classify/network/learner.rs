//! A network in training: its head, what of it is trained, and where the frozen part ends.

use candle_core::{DType, Device, Tensor};

use crate::domain::Architecture;
use crate::domain::run::Method;
use crate::domain::training::Training;
use crate::nn::kernel::draw::normal;
use crate::nn::lora;
use crate::nn::ops::linear;
use crate::nn::{Encoder, Gradients, Mode, Params, Tensors};
use crate::training::data::generator;
use crate::training::run::error::TrainingError;
use crate::training::run::numbers::first_non_finite;

/// Names of the classifier's tensors, torchvision's.
pub(in crate::training::classify) const HEAD_WEIGHT: &str = "fc.weight";
pub(in crate::training::classify) const HEAD_BIAS: &str = "fc.bias";
/// Standard deviation of the head's first weights.
const HEAD_STD: f64 = 0.01;
/// Endings of tensors that follow the batches without being trained.
const FOLLOWING: [&str; 2] = ["running_mean", "running_var"];

/// The part of a network that is trained.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Part {
    /// Every layer.
    Whole,
    /// The last so many stages (of a transformer: blocks).
    Tail(usize),
    /// Low-rank factors that are added to the attention, which themselves weigh `alpha / rank`.
    LowRank { rank: usize, alpha: f64 },
}

impl Part {
    /// The part that `method` trains.
    pub(super) fn of(method: Method, training: &Training) -> Self {
        match method {
            Method::Probe => Self::Tail(0),
            Method::Last => Self::Tail(training.stages as usize),
            Method::Full => Self::Whole,
            Method::Lora => Self::LowRank { rank: training.rank as usize, alpha: training.alpha },
        }
    }

    /// Whether a tensor of this name is part of it; the head always is.
    fn holds(self, architecture: Architecture, name: &str) -> bool {
        let head = name == HEAD_WEIGHT || name == HEAD_BIAS;
        match self {
            // The neck of a transformer leads to its feature map, which no class is told from.
            Self::Whole => !architecture.is_of_map(name),
            Self::Tail(stages) => head || architecture.is_in_tail(name, stages),
            Self::LowRank { .. } => head || lora::is_lora(name),
        }
    }
}

/// A network in training.
pub(super) struct Learner {
    architecture: Architecture,
    part: Part,
    pub(super) params: Params,
    network: Encoder,
}

impl Learner {
    /// The backbone `start` with the head that it brings, or a fresh one of `classes` outputs drawn from
    /// `seed`.
    pub(super) fn new(
        architecture: Architecture,
        mut start: Tensors,
        part: Part,
        (classes, seed): (usize, u64),
    ) -> Result<Self, TrainingError> {
        let cpu = Device::Cpu;
        if !start.contains_key(HEAD_WEIGHT) {
            let size = architecture.embedding_size();
            let mut random = generator("head", seed, 0, 0);
            let weight = normal(&mut random, classes * size, HEAD_STD);
            start.insert(HEAD_WEIGHT.to_owned(), Tensor::from_vec(weight, (classes, size), &cpu)?);
            start.insert(HEAD_BIAS.to_owned(), Tensor::zeros(classes, DType::F32, &cpu)?);
        }
        if let Part::LowRank { rank, .. } = part {
            lora::insert(&mut start, rank, seed)?;
        }
        let mut params = Params::new(&start, DType::F32, &cpu)?;
        params.train_only(|name| part.holds(architecture, name));
        let network = match part {
            Part::LowRank { alpha, .. } => Encoder::with_alpha(architecture, &params, alpha)?,
            Part::Whole | Part::Tail(_) => Encoder::new(architecture, &params)?,
        };
        Ok(Self { architecture, part, params, network })
    }

    /// Whether nothing of it is frozen before the trained part.
    pub(super) fn is_whole(&self) -> bool {
        match self.part {
            Part::Whole | Part::LowRank { .. } => true,
            Part::Tail(_) => false,
        }
    }

    /// The input of the trained part for a batch of pictures `[N, 3, H, W]`: the pictures themselves
    /// where nothing before it is frozen. No gradient leads back from it.
    pub(super) fn enter(&self, pictures: &Tensor) -> Result<Tensor, TrainingError> {
        match self.part {
            Part::Whole | Part::LowRank { .. } => Ok(pictures.clone()),
            Part::Tail(stages) => Ok(self.network.trunk(pictures, stages, Mode::Frozen)?.detach()),
        }
    }

    /// Logits `[N, K]` of what [`Self::enter`] gave.
    pub(super) fn logits(&self, entered: &Tensor, mode: Mode) -> Result<Tensor, TrainingError> {
        let features = match self.part {
            Part::Whole | Part::LowRank { .. } => self.network.forward(entered, mode)?,
            Part::Tail(stages) => self.network.tail(entered, stages, mode)?,
        };
        let (weight, bias) = (self.params.get(HEAD_WEIGHT)?, self.params.get(HEAD_BIAS)?);
        Ok(linear(&features.embedding, weight, bias)?)
    }

    /// The same logits on running statistics, without a backward pass.
    pub(super) fn answers(&self, entered: &Tensor) -> Result<Tensor, TrainingError> {
        let features = match self.part {
            Part::Whole | Part::LowRank { .. } => self.network.infer(entered)?,
            Part::Tail(stages) => self.network.tail(entered, stages, Mode::Frozen)?,
        };
        let (weight, bias) = (self.params.get(HEAD_WEIGHT)?, self.params.get(HEAD_BIAS)?);
        Ok(linear(&features.embedding.detach(), &weight.detach(), &bias.detach())?)
    }

    /// Gradients of a loss that was computed from [`Self::logits`].
    pub(super) fn backward(&self, loss: &Tensor) -> Result<Gradients, TrainingError> {
        Ok(self.network.backward(loss, &self.params)?)
    }

    /// The number of values that are trained.
    pub(super) fn trained_parameters(&self) -> u64 {
        self.params.trainable().map(|(_, variable)| variable.elem_count() as u64).sum()
    }

    /// The tensors that training may change: what a checkpoint has to keep.
    pub(super) fn moving(&self) -> Result<Tensors, TrainingError> {
        Ok(self.moving_of(self.params.snapshot()?))
    }

    /// Those of `all` that training may change.
    pub(super) fn moving_of(&self, mut all: Tensors) -> Tensors {
        all.retain(|name, _| {
            let follows = FOLLOWING.iter().any(|ending| name.ends_with(ending));
            self.params.is_trainable(name) || (follows && self.part.holds(self.architecture, name))
        });
        all
    }

    /// Sets the tensors of [`Self::moving`].
    pub(super) fn set(&self, moving: &Tensors) -> Result<(), TrainingError> {
        let mut all = self.params.snapshot()?;
        all.extend(moving.iter().map(|(name, tensor)| (name.clone(), tensor.clone())));
        Ok(self.params.restore(&all)?)
    }

    /// Backbone and head as they are published, with `moving` in place and low-rank factors merged
    /// into the weights that they were added to.
    pub(super) fn published(&self, moving: &Tensors) -> Result<Tensors, TrainingError> {
        let mut all = self.params.snapshot()?;
        all.extend(moving.iter().map(|(name, tensor)| (name.clone(), tensor.clone())));
        match self.part {
            Part::LowRank { alpha, .. } => Ok(lora::merge(&all, alpha)?),
            Part::Whole | Part::Tail(_) => Ok(all),
        }
    }

    /// Names the first place whose numbers are not finite when a batch has been computed to something
    /// that is not: a parameter, the input, a stage, or else the head.
    pub(super) fn first_non_finite(&self, entered: &Tensor) -> Result<String, TrainingError> {
        let network = self.is_whole().then_some((self.architecture, &self.network));
        let found = first_non_finite(&self.params, network, entered)?;
        Ok(found.unwrap_or_else(|| HEAD_WEIGHT.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};

    use super::{Learner, Part};
    use crate::domain::Architecture;
    use crate::domain::run::Method;
    use crate::domain::training::Training;
    use crate::nn::Mode;
    use crate::nn::optim::Optimiser;
    use crate::nn::weights::random;
    use crate::training::classify::network::loss::SoftCrossEntropy;
    use crate::training::classify::network::step::{Shown, Way, gradients};
    use crate::training::run::rate::{groups, rule};

    /// The names whose values differ after one step.
    fn moved(learner: &Learner, mode: Mode) -> Vec<String> {
        let before = learner.params.snapshot().expect("a snapshot");
        let cpu = Device::Cpu;
        let side = (learner.architecture.family().facts().size_step as usize).max(28);
        let values = (0..3 * 3 * side * side).map(|at| ((at * 7919) % 1009) as f32 / 504.5 - 1.0);
        let shape = (3, 3, side, side);
        let pictures = Tensor::from_vec(values.collect(), shape, &cpu).expect("pictures");
        let targets = Tensor::new(&[[1.0_f32, 0.0], [0.0, 1.0], [0.5, 0.5]], &cpu);
        let entered = learner.enter(&pictures).expect("entered");
        let shown = Shown { entered, targets: targets.expect("targets") };
        let loss = SoftCrossEntropy::new(None, 0.0);
        let way = Way { loss, mode, micro_batch: 3, clip_norm: 0.0 };

        let found = gradients(learner, &shown, &way).expect("computed");
        let (_, gradients) = found.expect("numbers");
        let training = Training { weight_decay: 0.0, ..Training::default() };
        let rates = groups(&training, learner.architecture);
        let mut optimiser = Optimiser::new(rule(&training), rates);
        optimiser.step(&learner.params, &gradients, 1e-3).expect("a step");

        let after = learner.params.snapshot().expect("a snapshot");
        let differs = |name: &str| {
            let bits = |tensor: &Tensor| {
                let values = tensor.flatten_all().and_then(|flat| flat.to_vec1::<f32>());
                values.expect("values").into_iter().map(f32::to_bits).collect::<Vec<_>>()
            };
            bits(&before[name]) != bits(&after[name])
        };
        before.keys().filter(|name| differs(name)).cloned().collect()
    }

    #[test]
    fn a_step_moves_every_trained_parameter_and_no_frozen_one() {
        let cases = [(Method::Full, 1), (Method::Last, 1), (Method::Last, 3), (Method::Lora, 1)];
        // Larger ones of a family are made of the same layers.
        let architectures = [
            Architecture::RESNET18,
            Architecture::RESNET50,
            Architecture::SAM_VIT_B,
            Architecture::DINOV2_VITS14,
            Architecture::DINOV2_VITS14_REG,
        ];
        for architecture in architectures {
            for (method, stages) in cases {
                let training = Training { stages, rank: 2, ..Training::default() };
                if !training.misfits(method, architecture).is_empty() {
                    continue;
                }
                let start = random(architecture, 3).expect("weights");
                let part = Part::of(method, &training);
                let learner = Learner::new(architecture, start, part, (2, 1)).expect("a learner");
                let trained: Vec<String> =
                    learner.params.trainable().map(|(name, _)| name.to_owned()).collect();

                let mut found = moved(&learner, Mode::Frozen);
                if method == Method::Lora {
                    // One factor of each product begins at zero and holds back the other's gradient.
                    found.extend(moved(&learner, Mode::Frozen));
                    found.sort();
                    found.dedup();
                }

                assert_eq!(found, trained, "{architecture} {method:?} {stages}");
                assert!(trained.len() > 2, "{architecture} {method:?} {stages}");
            }
        }
    }

    #[test]
    fn low_rank_factors_are_merged_into_a_network_of_the_same_shape() {
        let architecture = Architecture::SAM_VIT_B;
        let start = random(architecture, 3).expect("weights");
        let part = Part::LowRank { rank: 2, alpha: 4.0 };
        let learner = Learner::new(architecture, start.clone(), part, (2, 1)).expect("a learner");
        moved(&learner, Mode::Frozen);
        let ones = Tensor::ones((1, 3, 32, 32), DType::F32, &Device::Cpu).expect("a picture");
        let logits = |learner: &Learner| {
            let logits = learner.logits(&ones, Mode::Frozen).expect("logits");
            logits.to_vec2::<f32>().expect("values")[0].clone()
        };

        let moving = learner.moving().expect("values");
        let published = learner.published(&moving).expect("merged");

        let names: Vec<&String> = published.keys().collect();
        let mut expected: Vec<&str> = start.keys().map(String::as_str).collect();
        expected.extend(["fc.bias", "fc.weight"]);
        expected.sort_unstable();
        assert_eq!(names, expected);
        let whole = Learner::new(architecture, start, Part::Whole, (2, 1)).expect("a learner");
        whole.set(&published).expect("it fits");
        let (one, other) = (logits(&learner), logits(&whole));
        let near = one.iter().zip(&other).all(|(one, other)| (one - other).abs() < 1e-4);
        assert!(near, "{one:?} and {other:?}");
    }

    #[test]
    fn statistics_follow_in_the_trained_part_alone() {
        let architecture = Architecture::RESNET18;
        let start = random(architecture, 3).expect("weights");
        let learner = Learner::new(architecture, start, Part::Tail(1), (2, 1)).expect("a learner");

        let moved = moved(&learner, Mode::Train);

        let following: Vec<&String> =
            moved.iter().filter(|name| name.contains("running")).collect();
        assert!(!following.is_empty());
        assert!(following.iter().all(|name| name.starts_with("layer4.")), "{following:?}");
        assert!(moved.iter().all(|name| name.starts_with("layer4.") || name.starts_with("fc.")));
        let kept = learner.moving().expect("values");
        assert!(moved.iter().all(|name| kept.contains_key(name)), "a checkpoint would lose some");
        assert_eq!(kept["fc.bias"].dtype(), DType::F32);
    }

    #[test]
    fn numbers_end_where_they_end() {
        let architecture = Architecture::RESNET18;
        let mut start = random(architecture, 3).expect("weights");
        // So large that the output overflows, itself a number.
        let huge = (&start["layer2.0.bn1.weight"] * 3e38).expect("a product");
        start.insert("layer2.0.bn1.weight".to_owned(), huge);
        let learner = Learner::new(architecture, start, Part::Whole, (2, 1)).expect("a learner");
        let ones = Tensor::ones((1, 3, 32, 32), DType::F32, &Device::Cpu).expect("a picture");

        let stage = learner.first_non_finite(&ones).expect("found");

        assert!(stage.starts_with("layer2."), "{stage}");
    }
}
