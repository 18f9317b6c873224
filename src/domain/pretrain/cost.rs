//! The forecast of a pretraining run, foretold from the measured cost of a step of its network.

use super::{Convolution, Objective, Pretrain};
use crate::domain::Architecture;
use crate::domain::forecast::{Calibration, Forecast, Trial};
use crate::domain::run::Method;

/// Bytes of a parameter in training: itself, its gradient, and the two moments of its optimiser.
const PARAMETER_BYTES: u64 = 16;

/// The network of a run and the side of its input in pixels.
pub type Network = (Architecture, u32);

/// The numbers of images that a pretraining run handles.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Images that are learnt from.
    pub shown: u64,
    /// Labelled images of the gate, through which each of its probes goes; 0 without one.
    pub judged: u64,
}

/// A batch of views that does not fit into the memory; unlike other batches it cannot be split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a batch of {batch_size} images in all their views needs about {} MB of memory; {} MB may be used \
     (LVMED_LIMIT_TRAINING_MEMORY_BYTES, else most of the machine's). {}",
    .needed_bytes / 1_000_000, .available_bytes / 1_000_000, smaller(*.fits)
)]
pub struct BatchTooLarge {
    /// Images in a batch.
    pub batch_size: u32,
    /// The memory that it needs.
    pub needed_bytes: u64,
    /// The memory that there is.
    pub available_bytes: u64,
    /// The largest batch that would fit.
    pub fits: Option<u32>,
}

fn smaller(fits: Option<u32>) -> String {
    match fits {
        Some(fits) => format!(
            "Set `learning.batch_size` to {fits} or less and average the gradients of several batches \
             with `learning.accumulate`, or make the views smaller"
        ),
        None => "Make the views smaller, or take a smaller network".to_owned(),
    }
}

impl Trial {
    /// The trial of a step that trains all of a network, without a head: pretraining's share of the
    /// backbone.
    pub fn of_pretraining(
        recipe: &Pretrain,
        (architecture, input): Network,
        threads: usize,
    ) -> Self {
        Self {
            architecture,
            size: recipe.side(input),
            method: Method::Full,
            stages: 0,
            rank: 0,
            optimiser: recipe.learning.optimiser,
            batch_statistics: architecture.has_batch_norm() && !recipe.learning.frozen_statistics,
            averages: false,
            augments: false,
            threads,
        }
    }
}

impl Objective {
    /// Whether a slowly moving copy of the network, its teacher, sees the two large views as well.
    pub fn has_teacher(&self) -> bool {
        match self {
            Self::MocoV2(_) | Self::Dino(_) => true,
            Self::Matching(_) | Self::Simclr(_) | Self::BarlowTwins(_) | Self::Vicregl(_) => false,
        }
    }

    /// Weights of its own linear layers on embeddings and feature maps with so many channels.
    pub fn weights(&self, embedding: u64, map: u64) -> u64 {
        let layers = |inputs: u64, widths: &[u32]| -> u64 {
            let widths = widths.iter().map(|width| u64::from(*width));
            widths.fold((0, inputs), |(sum, inputs), width| (sum + inputs * width, width)).0
        };
        match self {
            Self::Matching(it) => {
                let of_layer = match it.convolution {
                    Convolution::Gcn => 1,
                    Convolution::GraphConv => 2,
                };
                let square = u64::from(it.channels).pow(2);
                layers(embedding, &[it.channels]) + u64::from(it.message_layers) * of_layer * square
            }
            Self::Simclr(it) => layers(embedding, &[it.hidden, it.output]),
            Self::BarlowTwins(it) => layers(embedding, &[it.hidden, it.hidden, it.output]),
            Self::Vicregl(it) => {
                let widths = [it.hidden, it.hidden, it.output];
                layers(embedding, &widths) + layers(map, &widths)
            }
            Self::MocoV2(it) => layers(embedding, &[it.hidden, it.output]),
            Self::Dino(it) => layers(embedding, &[it.hidden, it.hidden, it.bottleneck, it.output]),
        }
    }
}

impl Pretrain {
    /// Side of the two views in pixels, for a network whose input has `input`.
    pub fn side(&self, input: u32) -> u32 {
        self.views.size.unwrap_or(input)
    }

    /// A batch of `images` in all their views, counted in pictures of the size of the two large ones.
    fn pictures(&self, images: u32, input: u32) -> Pictures {
        let (views, images) = (&self.views, f64::from(images));
        let small = f64::from(views.small_crops) * area(views.small_size, self.side(input));
        let taught = if self.objective.has_teacher() { 2.0 } else { 0.0 };
        Pictures { learnt: images * (2.0 + small), taught: images * taught }
    }

    /// The memory of a step on a batch of `images`. What a teacher computes is let go layer by layer.
    fn bytes(&self, images: u32, (architecture, input): Network, step: &Calibration) -> u64 {
        let pictures = self.pictures(images, input);
        let channels = (architecture.embedding_size() as u64, architecture.map_channels() as u64);
        let own = self.objective.weights(channels.0, channels.1) * PARAMETER_BYTES;
        // The teacher is one more copy of the weights that training holds four times.
        let teacher = if self.objective.has_teacher() { (step.base_bytes + own) / 4 } else { 0 };
        step.bytes(pictures.learnt.ceil() as u32) + own + teacher
    }

    /// The memory of a batch, in bytes, or an error where it does not fit into `available_bytes`.
    /// `step` is that of [`Trial::of_pretraining`].
    pub fn fits(
        &self,
        network: Network,
        step: &Calibration,
        available_bytes: u64,
    ) -> Result<u64, BatchTooLarge> {
        let batch_size = self.learning.batch_size;
        let bytes = |images: u32| self.bytes(images, network, step);
        let needed_bytes = bytes(batch_size);
        if needed_bytes <= available_bytes {
            return Ok(needed_bytes);
        }
        let least = match &self.objective {
            Objective::Matching(matching) => matching.nodes,
            Objective::Simclr(_)
            | Objective::BarlowTwins(_)
            | Objective::Vicregl(_)
            | Objective::MocoV2(_)
            | Objective::Dino(_) => 2,
        };
        let fits = (least..batch_size).rev().find(|images| bytes(*images) <= available_bytes);
        Err(BatchTooLarge { batch_size, needed_bytes, available_bytes, fits })
    }

    /// Foretells a run from the cost of a step of its network, that of [`Trial::of_pretraining`]. What
    /// the objective computes beside it, decoding and the fitting of probes are left out.
    pub fn forecast(
        &self,
        network: Network,
        step: &Calibration,
        amounts: Amounts,
        (available_bytes, threads): (u64, usize),
    ) -> Result<Forecast, BatchTooLarge> {
        let memory_bytes = self.fits(network, step, available_bytes)?;
        let learning = &self.learning;
        let batches = amounts.shown / u64::from(learning.batch_size.max(1));
        let steps = batches.div_ceil(u64::from(learning.accumulate.max(1)));
        let pictures = self.pictures(learning.batch_size, network.1);
        let batch = pictures.learnt * step.image_seconds + pictures.taught * step.forward_seconds;
        let epoch = batches as f64 * batch + steps as f64 * step.step_seconds;
        let mut training = f64::from(learning.epochs) * epoch;
        if let Some(minutes) = learning.max_minutes {
            training = training.min(minutes * 60.0);
        }
        let between = self.gate.as_ref().and_then(|gate| gate.every).unwrap_or(learning.epochs);
        let probes = f64::from(2 + learning.epochs.saturating_sub(1) / between.max(1));
        let judged = amounts.judged as f64 * area(network.1, self.side(network.1));
        Ok(Forecast {
            seconds: training + probes * judged * step.forward_seconds,
            memory_bytes,
            available_bytes,
            micro_batch: None,
            threads,
        })
    }
}

/// The pixels of a square of `side` in those of one of `unit`.
fn area(side: u32, unit: u32) -> f64 {
    (f64::from(side) / f64::from(unit.max(1))).powi(2)
}

/// The load of a batch.
struct Pictures {
    /// Forward and backward.
    learnt: f64,
    /// Forward through the teacher.
    taught: f64,
}

#[cfg(test)]
mod tests {
    use super::{Amounts, Calibration, Pretrain};
    use crate::domain::Architecture;

    const STEP: Calibration = Calibration {
        base_bytes: 4_000_000,
        image_bytes: 100_000,
        checkpoint_bytes: 0,
        step_seconds: 0.5,
        image_seconds: 0.01,
        forward_seconds: 0.004,
        frozen_seconds: 0.0,
    };
    const NETWORK: (Architecture, u32) = (Architecture::RESNET18, 64);

    fn recipe(rest: &str) -> Pretrain {
        let text = format!(
            r#"{{"dataset_version": "01890000-0000-7000-8000-000000000001",
                "architecture": "resnet18", {rest}}}"#
        );
        serde_json::from_str(&text).expect("a recipe")
    }

    fn seconds(recipe: &Pretrain, judged: u64) -> f64 {
        let amounts = Amounts { shown: 35, judged };
        recipe.forecast(NETWORK, &STEP, amounts, (u64::MAX, 2)).expect("it fits").seconds
    }

    #[test]
    fn time_is_that_of_whole_batches_in_all_their_views() {
        let learning = r#""learning": {"batch_size": 10, "epochs": 4, "accumulate": 2}"#;
        let plain = recipe(&format!(r#"{learning}, "objective": {{"kind": "simclr"}}"#));
        let half = format!(
            r#"{learning}, "objective": {{"kind": "dino"}},
               "views": {{"size": 32, "small_crops": 4, "small_size": 32}},
               "gate": {{"dataset_version": "01890000-0000-7000-8000-000000000001", "every": 2}}"#
        );

        // Three batches, two steps; 20 pictures a batch.
        assert!((seconds(&plain, 0) - 4.0 * (3.0 * 0.2 + 2.0 * 0.5)).abs() < 1e-9);
        // Twenty pictures of the views' 32 pixels and forty small ones, twenty through the teacher.
        // Probes before, after two of four epochs, and after, each on four times the pixels.
        let batch = 60.0 * 0.01 + 20.0 * 0.004;
        let expected = 4.0 * (3.0 * batch + 2.0 * 0.5) + 3.0 * 50.0 * 4.0 * 0.004;
        assert!((seconds(&recipe(&half), 50) - expected).abs() < 1e-9);
        let minute = recipe(r#""learning": {"batch_size": 10, "max_minutes": 0.05}"#);
        assert!((seconds(&minute, 0) - 3.0).abs() < 1e-9);
    }

    #[test]
    fn a_batch_that_does_not_fit_is_told_with_the_one_that_would() {
        let plain = recipe(r#""objective": {"kind": "matching", "message_layers": 0}"#);
        let taught = recipe(r#""objective": {"kind": "moco_v2", "hidden": 2, "output": 2}"#);

        // 4 MB and 128 pictures of 0.1 MB with the margin of 15 %, and 512 x 128 weights.
        let needed = 19_320_000 + 512 * 128 * 16;
        assert_eq!(plain.fits(NETWORK, &STEP, needed), Ok(needed));
        let refused = plain.fits(NETWORK, &STEP, needed - 1).expect_err("one byte too few");
        assert_eq!((refused.batch_size, refused.fits), (64, Some(63)));
        let told = refused.to_string();
        assert!(told.contains("20 MB") && told.contains("to 63 or less"), "{told}");
        let none = plain.fits(NETWORK, &STEP, 1000).expect_err("no batch at all").to_string();
        assert!(none.contains("smaller network"), "{none}");
        // Another copy of the weights.
        let teacher = taught.fits(NETWORK, &STEP, u64::MAX).expect("it fits");
        assert_eq!(teacher, 19_320_000 + 512 * 2 * 16 + 2 * 2 * 16 + (4_000_000 + 16_448) / 4);
        // No graph has fewer than its sixteen nodes.
        let fifteen = plain.bytes(15, NETWORK, &STEP);
        let refused = plain.fits(NETWORK, &STEP, fifteen).expect_err("no graph at all");
        assert_eq!(refused.fits, None);
    }
}
