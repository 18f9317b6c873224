//! Full fine-tuning: every layer and the head, by AdamW, until the validation loss stops falling.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use candle_core::{D, DType, Device, Tensor};

use super::checkpoint::{Position, State};
use super::data::{Batch, Drawing, Feed, Pictures, Place, Plan, generator};
use super::error::TrainingError;
use super::host::{Host, Stop};
use super::job::{Example, Job};
use super::reporter::{At, Reporter, Stage};
use crate::domain::augmentation::Augmentation;
use crate::domain::imbalance::Imbalance;
use crate::nn::loss::cross_entropy;
use crate::nn::ops::linear;
use crate::nn::optim::{AdamW, Settings, learning_rate};
use crate::nn::weights::{load, normal};
use crate::nn::{Encoder, Mode, Params, Tensors};

/// Names of the classifier's tensors, torchvision's.
pub(super) const HEAD_WEIGHT: &str = "fc.weight";
pub(super) const HEAD_BIAS: &str = "fc.bias";
/// Standard deviation of the head's first weights.
const HEAD_STD: f64 = 0.01;
/// A checkpoint may take this share of the time since the one before it.
const CHECKPOINT_SHARE: f64 = 0.1;
/// Images of a validation batch.
const VALIDATION_BATCH: usize = 16;

/// What full fine-tuning gives.
pub(super) struct Trained {
    /// Backbone and head of the best epoch.
    pub(super) tensors: Tensors,
    /// The best epoch, from 1.
    pub(super) epoch: u32,
    /// Epochs that were run.
    pub(super) epochs: u32,
    /// Which statistics batch normalisation used.
    pub(super) mode: Mode,
}

/// Trains from the run's checkpoint, or from the backbone when there is none.
pub(super) fn train(
    job: &Job,
    (training, validation): (&[&Example], &[&Example]),
    host: &dyn Host,
    reporter: &Reporter<'_>,
    stage: Stage,
) -> Result<Trained, TrainingError> {
    let mut trainer = Trainer::new(job, (training, validation), host, reporter, stage)?;
    if let Some(bytes) = host.checkpoint()? {
        trainer.restore(State::from_bytes(&bytes)?)?;
        let Position { epoch, batch, .. } = trainer.position;
        host.log(&format!("resumed from a checkpoint in epoch {} at batch {batch}", epoch + 1))?;
    }
    let result = trainer.run();
    if let Err(TrainingError::Stopped(Stop::HandedBack)) = &result {
        trainer.save()?;
    }
    result?;
    trainer.finish()
}

struct Trainer<'a> {
    job: &'a Job,
    host: &'a dyn Host,
    reporter: &'a Reporter<'a>,
    stage: Stage,
    training: Feed<'a>,
    validation: Feed<'a>,
    params: Params,
    network: Encoder,
    optimiser: AdamW,
    mode: Mode,
    position: Position,
    best: Tensors,
    /// When the newest checkpoint was finished, and how long it took.
    saved: (Instant, Duration),
}

impl<'a> Trainer<'a> {
    fn new(
        job: &'a Job,
        (training, validation): (&'a [&'a Example], &'a [&'a Example]),
        host: &'a dyn Host,
        reporter: &'a Reporter<'a>,
        stage: Stage,
    ) -> Result<Self, TrainingError> {
        let mut start = load(&job.weights)?;
        let (classes, size) = (job.classes(), job.backbone.architecture.embedding_size());
        let mut random = generator("head", job.spec.seed, 0, 0);
        let weight = normal(&mut random, classes * size, HEAD_STD);
        let cpu = Device::Cpu;
        start.insert(HEAD_WEIGHT.to_owned(), Tensor::from_vec(weight, (classes, size), &cpu)?);
        start.insert(HEAD_BIAS.to_owned(), Tensor::zeros(classes, DType::F32, &cpu)?);
        let params = Params::new(&start, DType::F32, &cpu)?;
        let network = Encoder::new(job.backbone.architecture, &params)?;
        let settings = &job.spec.full;
        let weight_decay = settings.weight_decay;
        let pictures = Arc::new(Pictures::of(job, host));
        let labels: Vec<u32> = training.iter().map(|example| example.label as u32).collect();
        let drawing = Drawing {
            batch_size: settings.batch_size as usize,
            imbalance: Imbalance::None,
            seed: job.spec.seed,
            epochs: settings.epochs,
        };
        let horizontal_flip = if settings.flip { 0.5 } else { 0.0 };
        let augmentation = Augmentation { horizontal_flip, ..Augmentation::default() };
        let plan = Plan::training(&labels, drawing);
        let in_order = Plan::in_order(validation.len(), VALIDATION_BATCH);
        Ok(Self {
            job,
            host,
            reporter,
            stage,
            training: Feed::new(Arc::clone(&pictures), training, classes, plan)
                .augmented(augmentation),
            validation: Feed::new(pictures, validation, classes, in_order),
            params,
            network,
            optimiser: AdamW::new(Settings { weight_decay, ..Settings::default() }),
            mode: Mode::for_images(training.len()),
            position: Position::default(),
            best: Tensors::new(),
            saved: (Instant::now(), Duration::ZERO),
        })
    }

    fn restore(&mut self, state: State) -> Result<(), TrainingError> {
        self.params.restore(&state.params)?;
        self.optimiser.restore(state.position.step, &state.moments)?;
        self.position = state.position;
        self.best = state.best;
        Ok(())
    }

    fn save(&mut self) -> Result<(), TrainingError> {
        let begun = Instant::now();
        let state = State {
            position: self.position.clone(),
            params: self.params.snapshot()?,
            moments: self.optimiser.state()?,
            best: self.best.clone(),
        };
        self.host.save_checkpoint(Bytes::from(state.to_bytes(self.job.run)?))?;
        self.saved = (Instant::now(), begun.elapsed());
        Ok(())
    }

    fn save_when_cheap(&mut self) -> Result<(), TrainingError> {
        let (at, took) = self.saved;
        if took.as_secs_f64() <= CHECKPOINT_SHARE * at.elapsed().as_secs_f64() {
            self.save()?;
        }
        Ok(())
    }

    fn run(&mut self) -> Result<(), TrainingError> {
        while !self.position.finished {
            self.epoch()?;
            self.close_epoch()?;
            self.save_when_cheap()?;
        }
        Ok(())
    }

    /// The batches of the epoch that are still to be done.
    fn epoch(&mut self) -> Result<(), TrainingError> {
        let settings = &self.job.spec.full;
        let steps = self.training.plan().batch_count() * u64::from(settings.epochs);
        let epoch = self.position.epoch;
        while let Some(batch) = self.training.load(Place { epoch, batch: self.position.batch })? {
            let rate =
                learning_rate(self.position.step, steps, settings.warmup, settings.learning_rate);
            let loss = self.step(&batch, rate)?;
            self.position.step += 1;
            self.position.batch += 1;
            self.host.metric("train_loss", self.position.step, loss)?;
            let at = At {
                done: self.position.step,
                total: steps,
                epoch: Some(self.position.epoch + 1),
                loss: Some(loss),
                images: batch.images.len() as u64,
            };
            self.reporter.at(self.stage, at)?;
            self.save_when_cheap()?;
        }
        Ok(())
    }

    /// One optimiser step; the mean loss of the batch before it.
    fn step(&mut self, batch: &Batch, rate: f64) -> Result<f64, TrainingError> {
        let loss = cross_entropy(&self.logits(&batch.input, self.mode)?, &batch.labels)?;
        let value = f64::from(loss.to_scalar::<f32>()?);
        self.insist_on_number(value)?;
        let gradients = self.network.backward(&loss, &self.params)?;
        self.optimiser.step(&self.params, &gradients, rate)?;
        Ok(value)
    }

    /// A loss that is no number would spread from here to everything.
    fn insist_on_number(&self, loss: f64) -> Result<(), TrainingError> {
        let (epoch, learning_rate) = (self.position.epoch + 1, self.job.spec.full.learning_rate);
        if loss.is_finite() {
            return Ok(());
        }
        Err(TrainingError::Diverged { loss, epoch, learning_rate })
    }

    fn logits(&self, input: &Tensor, mode: Mode) -> Result<Tensor, TrainingError> {
        let features = self.network.forward(input, mode)?;
        let (weight, bias) = (self.params.get(HEAD_WEIGHT)?, self.params.get(HEAD_BIAS)?);
        Ok(linear(&features.embedding, weight, bias)?)
    }

    /// Validates, keeps the best epoch, and decides whether there is another.
    fn close_epoch(&mut self) -> Result<(), TrainingError> {
        let epoch = self.position.epoch;
        let number = u64::from(epoch) + 1;
        if self.validation.plan().images() > 0 {
            let (loss, accuracy) = self.validate()?;
            self.insist_on_number(loss)?;
            self.host.metric("validation_loss", number, loss)?;
            self.host.metric("validation_accuracy", number, accuracy)?;
            if self.position.best.is_none_or(|(best, _)| loss < best) {
                self.position.best = Some((loss, epoch));
                self.best = self.params.snapshot()?;
            }
        }
        let settings = &self.job.spec.full;
        let since_best = self.position.best.map_or(0, |(_, best)| epoch - best);
        self.position.epoch += 1;
        self.position.batch = 0;
        self.position.finished =
            self.position.epoch >= settings.epochs || since_best >= settings.patience;
        Ok(())
    }

    /// Mean cross-entropy and accuracy on the validation images, on running statistics.
    fn validate(&mut self) -> Result<(f64, f64), TrainingError> {
        let images = self.validation.plan().images();
        let (mut total, mut right) = (0.0, 0_u32);
        for batch in 0..self.validation.plan().batch_count() {
            if let Some(stop) = self.host.stop() {
                return Err(TrainingError::Stopped(stop));
            }
            let Some(batch) = self.validation.load(Place { epoch: 0, batch })? else { break };
            let logits = self.logits(&batch.input, Mode::Frozen)?.detach();
            let loss = cross_entropy(&logits, &batch.labels)?.to_scalar::<f32>()?;
            total += f64::from(loss) * batch.images.len() as f64;
            let answers = logits.argmax(D::Minus1)?.to_vec1::<u32>()?;
            right += answers.iter().zip(&batch.labels).filter(|(one, other)| one == other).count()
                as u32;
        }
        Ok((total / images as f64, f64::from(right) / images as f64))
    }

    fn finish(self) -> Result<Trained, TrainingError> {
        let epochs = self.position.epoch;
        let (tensors, epoch) = match self.position.best {
            Some((_, best)) => (self.best, best + 1),
            None => (self.params.snapshot()?, epochs),
        };
        Ok(Trained { tensors, epoch, epochs, mode: self.mode })
    }
}
