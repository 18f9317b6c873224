//! The forecast of a run: time and memory, foretold from the measured cost of a few steps.

use serde::{Deserialize, Serialize};

use super::Architecture;
use super::run::{Finetune, Method};
use super::training::{Optimiser, Statistics, Training};

/// The settings that decide the cost of a step: equal requests cost the same on one machine.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Trial {
    /// The network.
    pub architecture: Architecture,
    /// Side of its square input.
    pub size: u32,
    /// The part that is trained.
    pub method: Method,
    /// `last`: stages or blocks trained.
    pub stages: u32,
    /// `lora`: rank.
    pub rank: u32,
    /// The optimiser that moves the weights.
    pub optimiser: Optimiser,
    /// Whether normalisation statistics are those of the batch.
    pub batch_statistics: bool,
    /// Whether a moving average of the weights is kept.
    pub averages: bool,
    /// Whether `last` computes the frozen part anew for every step, for its pictures differ.
    pub augments: bool,
    /// Compute threads.
    pub threads: usize,
}

impl Trial {
    /// The trial of a recipe on `images` training images.
    pub fn of(
        recipe: &Finetune,
        (architecture, size): (Architecture, u32),
        images: u64,
        threads: usize,
    ) -> Self {
        let training = &recipe.training;
        let used = |is_used: bool, value: u32| if is_used { value } else { 0 };
        Self {
            architecture,
            size,
            method: recipe.method,
            stages: used(recipe.method == Method::Last, training.stages),
            rank: used(recipe.method == Method::Lora, training.rank),
            optimiser: training.optimiser,
            batch_statistics: training.uses_batch_statistics(images),
            averages: training.ema_decay > 0.0,
            augments: recipe.method == Method::Last && training.varies(),
            threads,
        }
    }
}

/// The measured cost of training steps.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Memory that does not grow with the batch.
    pub base_bytes: u64,
    /// Memory of each image computed at the same time.
    pub image_bytes: u64,
    /// Memory while a checkpoint is written.
    pub checkpoint_bytes: u64,
    /// Time of the optimiser, once a step.
    pub step_seconds: f64,
    /// Time of an image forward and backward through what is trained.
    pub image_seconds: f64,
    /// Time of an image forward through what is trained.
    pub forward_seconds: f64,
    /// Time of an image through the frozen part, once where it is cached.
    pub frozen_seconds: f64,
}

/// Percent that are added to what was measured: measurements and allocators are not exact.
const MARGIN_PERCENT: u64 = 15;

impl Calibration {
    /// Memory of a step with `micro_batch` images at a time.
    pub fn bytes(&self, micro_batch: u32) -> u64 {
        let step = self.base_bytes + u64::from(micro_batch) * self.image_bytes;
        let most = step.max(self.checkpoint_bytes);
        most + most / 100 * MARGIN_PERCENT + most % 100 * MARGIN_PERCENT / 100
    }

    /// The largest of `batch`, its half, its quarter, … that fits in `budget` bytes; none when not
    /// even one image at a time does.
    pub fn micro_batch(&self, batch: u32, budget: u64) -> Option<u32> {
        let mut size = batch.max(1);
        while self.bytes(size) > budget {
            if size == 1 {
                return None;
            }
            size = size.div_ceil(2);
        }
        Some(size)
    }
}

/// The numbers of images that a run handles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Amounts {
    /// Training images of each repeat.
    pub training: u64,
    /// Validation images.
    pub validation: u64,
    /// Test images.
    pub test: u64,
}

/// The forecast of a run on this machine, for at most its epochs.
#[derive(Debug, Clone, PartialEq)]
pub struct Forecast {
    /// Time until it ends if no early stop ends it before.
    pub seconds: f64,
    /// Most memory of its worker.
    pub memory_bytes: u64,
    /// Memory that it may use when no other run is at work.
    pub available_bytes: u64,
    /// Images computed at a time so that it fits; the batch stays as asked. None where there are no
    /// batches, or batches that cannot be split.
    pub micro_batch: Option<u32>,
    /// Compute threads it was measured with.
    pub threads: usize,
}

/// The reason why a run is refused before it begins.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error(
    "the run needs about {} MB of memory with one image at a time; {} MB may be used \
     (LVMED_LIMIT_TRAINING_MEMORY_BYTES, else most of the machine's). Choose probe, a smaller \
     backbone or a smaller input size",
    needed_bytes / 1_000_000, available_bytes / 1_000_000
)]
pub struct TooLarge {
    /// Memory it would take with one image at a time.
    pub needed_bytes: u64,
    /// Memory that it may use.
    pub available_bytes: u64,
}

/// Foretells a run from the cost of its steps.
pub fn forecast(
    recipe: &Finetune,
    trial: &Trial,
    calibration: &Calibration,
    amounts: Amounts,
    available_bytes: u64,
) -> Result<Forecast, TooLarge> {
    let Training { batch_size, micro_batch: asked, max_minutes, .. } = recipe.training;
    let epochs = recipe.epochs(amounts.training, amounts.validation > 0);
    let batch = u64::from(batch_size).min(amounts.training.max(1)) as u32;
    let wanted = asked.unwrap_or(batch).min(batch);
    let Some(micro_batch) = calibration.micro_batch(wanted, available_bytes) else {
        return Err(TooLarge { needed_bytes: calibration.bytes(1), available_bytes });
    };
    let all = (amounts.training + amounts.validation + amounts.test) as f64;
    let images = (amounts.training as f64, amounts.validation as f64);
    let each = calibration.frozen_seconds + calibration.forward_seconds;
    // A random network is compared with on the images that are learnt from and judged by.
    let compared = amounts.training + amounts.test;
    let floor = if recipe.random_baseline { compared as f64 * each } else { 0.0 };
    let once = match trial.method {
        Method::Probe => {
            return Ok(Forecast {
                // Features are computed once, whatever the number of repeats.
                seconds: all * each + floor,
                memory_bytes: calibration.bytes(1),
                available_bytes,
                micro_batch: None,
                threads: trial.threads,
            });
        }
        Method::Last if !trial.augments => (images.0 + images.1) * calibration.frozen_seconds,
        Method::Last | Method::Full | Method::Lora => 0.0,
    };
    let again = if trial.augments { calibration.frozen_seconds } else { 0.0 };
    let steps = amounts.training.div_ceil(u64::from(batch.max(1))) as f64;
    let epoch = steps * calibration.step_seconds
        + images.0 * (calibration.image_seconds + again)
        + images.1 * (calibration.forward_seconds + again);
    let repeats = f64::from(recipe.repeats);
    let mut training = repeats * f64::from(epochs) * epoch;
    if let Some(minutes) = max_minutes {
        training = training.min(minutes * 60.0);
    }
    let seconds = floor + once + training + repeats * amounts.test as f64 * each;
    let memory_bytes = calibration.bytes(micro_batch);
    Ok(Forecast {
        seconds,
        memory_bytes,
        available_bytes,
        micro_batch: Some(micro_batch),
        threads: trial.threads,
    })
}

impl Training {
    /// Whether normalisation uses the statistics of the batch when there are `images` to learn from.
    pub fn uses_batch_statistics(&self, images: u64) -> bool {
        match self.batch_norm {
            Statistics::Auto => images >= super::training::IMAGES_FOR_BATCH_STATISTICS,
            Statistics::Frozen => false,
            Statistics::Train => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Amounts, Calibration, TooLarge, Trial, forecast};
    use crate::domain::Architecture;

    const STEP: Calibration = Calibration {
        base_bytes: 1000,
        image_bytes: 100,
        checkpoint_bytes: 1200,
        step_seconds: 0.1,
        image_seconds: 0.01,
        forward_seconds: 0.004,
        frozen_seconds: 0.0,
    };

    #[test]
    fn the_micro_batch_is_halved_until_it_fits() {
        // With the margin: 1380 bytes up to 2 images, then 115 for each.
        assert_eq!(STEP.bytes(1), 1380);
        assert_eq!(STEP.bytes(16), 2990);
        assert_eq!(STEP.micro_batch(16, 3000), Some(16));
        assert_eq!(STEP.micro_batch(16, 2989), Some(8));
        assert_eq!(STEP.micro_batch(5, 1500), Some(3));
        assert_eq!(STEP.micro_batch(16, 1379), None);
    }

    #[test]
    fn a_random_network_to_compare_with_costs_a_pass_over_what_is_learnt_and_judged() {
        let seconds = |rest: &str| {
            let recipe = format!(
                r#"{{"dataset_version": "01890000-0000-7000-8000-000000000001", "backbone":
                    "01890000-0000-7000-8000-000000000002", "method": "probe"{rest}}}"#
            );
            let recipe = serde_json::from_str(&recipe).expect("a recipe");
            let amounts = Amounts { training: 10, validation: 2, test: 5 };
            let trial = Trial::of(&recipe, (Architecture::RESNET18, 64), 10, 2);
            forecast(&recipe, &trial, &STEP, amounts, u64::MAX).expect("it fits").seconds
        };

        assert!((seconds("") - 17.0 * 0.004).abs() < 1e-12);
        assert!((seconds(r#", "random_baseline": true"#) - 32.0 * 0.004).abs() < 1e-12);
    }

    #[test]
    fn a_refusal_says_both_numbers() {
        let refused = TooLarge { needed_bytes: 5_000_000_000, available_bytes: 2_000_000_000 };

        let told = refused.to_string();

        assert!(told.contains("5000 MB") && told.contains("2000 MB"), "{told}");
    }
}
