//! The cost of a training step on this machine, from a few steps on random pictures.

use std::time::Instant;

use candle_core::{DType, Device, Tensor};

use super::learner::{Learner, Part};
use super::loss::SoftCrossEntropy;
use super::step::{Shown, Way, gradients};
use crate::domain::forecast::{Calibration, Trial};
use crate::domain::training::Training;
use crate::nn::optim::{Average, Optimiser};
use crate::nn::weights::{random, to_bytes};
use crate::nn::{Mode, Tensors, with_threads};
use crate::training::run::error::TrainingError;
use crate::training::run::rate::{groups, rule};

/// Pixels that the larger of the two batches has, at least two images.
const PIXELS: usize = 4 * 224 * 224;

/// Measures a trial. Meant for a process that does nothing else: memory is the peak of the process.
pub fn calibrate(trial: &Trial) -> Result<Calibration, TrainingError> {
    let measured = with_threads(trial.threads, || Bench::new(trial)?.measure());
    measured.unwrap_or_else(|error| Err(std::io::Error::other(error).into()))
}

struct Bench<'a> {
    trial: &'a Trial,
    learner: Learner,
    optimiser: Optimiser,
    average: Option<Average>,
    way: Way,
}

impl<'a> Bench<'a> {
    fn new(trial: &'a Trial) -> Result<Self, TrainingError> {
        let training = Training {
            optimiser: trial.optimiser,
            stages: trial.stages,
            rank: trial.rank,
            ..Training::default()
        };
        let part = Part::of(trial.method, &training);
        let start = random(trial.architecture, 0)?;
        let learner = Learner::new(trial.architecture, start, part, (2, 0))?;
        let mode = if trial.batch_statistics { Mode::Train } else { Mode::Frozen };
        let loss = SoftCrossEntropy::new(None, 0.0);
        Ok(Self {
            trial,
            learner,
            optimiser: Optimiser::new(rule(&training), groups(&training, trial.architecture)),
            average: trial.averages.then(|| Average::new(0.99)),
            way: Way { loss, mode, micro_batch: usize::MAX, clip_norm: 1.0 },
        })
    }

    fn measure(&mut self) -> Result<Calibration, TrainingError> {
        let side = self.trial.size as usize;
        let images = (PIXELS / (side * side)).clamp(2, 8);
        let (frozen_seconds, single) = self.enter(1)?;
        // The first step makes the moments and warms up.
        self.step(&single)?;
        let (step_seconds, one_seconds) = self.step(&single)?;
        let one_bytes = peak_bytes();
        drop(single);
        let entered_again = self.trial.augments || frozen_seconds == 0.0;
        let (_, many) = if entered_again { self.enter(images)? } else { self.repeat(images)? };
        let (_, many_seconds) = self.step(&many)?;
        let many_bytes = peak_bytes();
        let begun = Instant::now();
        self.learner.answers(&many.entered)?;
        let forward_seconds = begun.elapsed().as_secs_f64() / images as f64;
        drop(many);
        self.checkpoint()?;
        let image_bytes = many_bytes.saturating_sub(one_bytes) / (images as u64 - 1);
        Ok(Calibration {
            base_bytes: one_bytes.saturating_sub(image_bytes),
            image_bytes,
            checkpoint_bytes: peak_bytes(),
            step_seconds,
            image_seconds: (many_seconds / images as f64).min(one_seconds),
            forward_seconds,
            frozen_seconds,
        })
    }

    /// Pictures through the frozen part; the time of each, 0 where nothing is frozen.
    fn enter(&self, images: usize) -> Result<(f64, Shown), TrainingError> {
        let side = self.trial.size as usize;
        let count = images * 3 * side * side;
        let values = (0..count).map(|at| ((at * 7919) % 1009) as f32 / 504.5 - 1.0).collect();
        let pictures = Tensor::from_vec(values, (images, 3, side, side), &Device::Cpu)?;
        let begun = Instant::now();
        let entered = self.learner.enter(&pictures)?;
        let each = begun.elapsed().as_secs_f64() / images as f64;
        let frozen = if self.learner.is_whole() { 0.0 } else { each };
        Ok((frozen, shown(entered)?))
    }

    /// A batch of one picture, several times: as kept activations are.
    fn repeat(&self, images: usize) -> Result<(f64, Shown), TrainingError> {
        let (_, single) = self.enter(1)?;
        Ok((0.0, shown(Tensor::cat(&vec![&single.entered; images], 0)?)?))
    }

    /// Seconds of the optimiser, and of forward and backward.
    fn step(&mut self, shown: &Shown) -> Result<(f64, f64), TrainingError> {
        let begun = Instant::now();
        let Ok((_, gradients)) = gradients(&self.learner, shown, &self.way)? else {
            return Err(
                candle_core::Error::Msg("the trial step lost its numbers".to_owned()).into()
            );
        };
        let passes = begun.elapsed().as_secs_f64();
        let begun = Instant::now();
        self.optimiser.step(&self.learner.params, &gradients, 1e-6)?;
        if let Some(average) = &mut self.average {
            average.update(&self.learner.params)?;
        }
        Ok((begun.elapsed().as_secs_f64(), passes))
    }

    /// Makes a checkpoint as a run does, with a best epoch beside the present one.
    fn checkpoint(&self) -> Result<(), TrainingError> {
        let mut all = Tensors::new();
        let groups = [self.learner.moving()?, self.learner.moving()?, self.optimiser.state()?];
        for (at, group) in groups.into_iter().enumerate() {
            all.extend(group.into_iter().map(|(name, tensor)| (format!("{at}/{name}"), tensor)));
        }
        to_bytes(&all, &std::collections::BTreeMap::new())?;
        Ok(())
    }
}

fn shown(entered: Tensor) -> Result<Shown, TrainingError> {
    let images = entered.dim(0)?;
    let targets = (Tensor::ones((images, 2), DType::F32, &Device::Cpu)? * 0.5)?;
    Ok(Shown { entered, targets })
}

/// The most memory that this process has held, `VmHWM` of `/proc/self/status`.
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    let kib = line.split_whitespace().next().and_then(|number| number.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
