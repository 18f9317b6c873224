//! Training by gradients: epochs of steps until the validation stops improving, resumable anywhere.
//!
//! One loop for the methods `last`, `full` and `lora`; they differ in what a [`Learner`] trains.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::checkpoint::{Ended, Position, State};
use super::data::{Place, class_weights};
use super::error::TrainingError;
use super::host::{Host, Stop};
use super::job::{Example, Job};
use super::learner::{Learner, Part};
use super::loss::SoftCrossEntropy;
use super::metrics::Judged;
use super::rate::{groups, rule, schedule};
use super::recipe::{Network, Normalised};
use super::repeats::{Done, score};
use super::reporter::{Allowance, At, Reporter, Stage};
use super::source::{Images, Stream, labels};
use super::step::{Way, gradients};
use crate::domain::imbalance::Imbalance;
use crate::domain::run::LEAST_PATIENCE;
use crate::domain::training::Training;
use crate::nn::optim::{Average, Optimiser};
use crate::nn::{Mode, Tensors};

/// A checkpoint at the end of an epoch may take this share of the time since the one before it.
const CHECKPOINT_SHARE: f64 = 0.1;

/// The world of a repeat.
#[derive(Clone, Copy)]
pub(super) struct Scene<'a> {
    pub(super) job: &'a Job,
    pub(super) host: &'a dyn Host,
    pub(super) reporter: &'a Reporter<'a>,
    pub(super) stage: Stage,
    /// Which repeat it is, from 0.
    pub(super) repeat: u32,
    /// Images computed at a time.
    pub(super) micro_batch: u32,
}

/// Images to learn from, and to judge epochs by.
#[derive(Clone, Copy)]
pub(super) struct Sets<'a> {
    pub(super) training: &'a [&'a Example],
    pub(super) validation: &'a [&'a Example],
}

/// What a repeat gives.
pub(super) struct Trained {
    /// Backbone and head of the best epoch.
    pub(super) tensors: Tensors,
    /// The score of that epoch, where there are validation images.
    pub(super) score: Option<f64>,
    pub(super) recipe: Network,
}

/// One repeat in training.
pub(super) struct Trainer<'a> {
    scene: Scene<'a>,
    sets: Sets<'a>,
    images: &'a Images<'a>,
    learner: Learner,
    way: Way,
    optimiser: Optimiser,
    average: Option<Average>,
    /// Epochs at most.
    epochs: u32,
    /// Steps of all epochs.
    steps: u64,
    position: Position,
    best: Tensors,
    /// The repeats before this one; a checkpoint carries them along.
    done: Done,
    /// When this attempt began to train.
    begun: Instant,
    /// When the newest checkpoint was finished, and how long it took.
    saved: (Instant, Duration),
}

impl<'a> Trainer<'a> {
    /// A repeat at its start.
    pub(super) fn new(
        scene: Scene<'a>,
        sets: Sets<'a>,
        images: &'a Images<'a>,
        (start, done): (Tensors, Done),
    ) -> Result<Self, TrainingError> {
        let (job, spec) = (scene.job, &scene.job.spec);
        let settings = &spec.training;
        let architecture = job.backbone.architecture;
        let seed = spec.seed_of(scene.repeat);
        let part = Part::of(spec.method, settings);
        let learner = Learner::new(architecture, start, part, (job.classes(), seed))?;
        let weights = match settings.imbalance {
            Imbalance::ClassWeights => Some(class_weights(&labels(sets.training), job.classes())),
            Imbalance::None | Imbalance::BalancedSampling | Imbalance::Oversampling => None,
        };
        let smoothing = settings.label_smoothing;
        let loss = SoftCrossEntropy::new(weights.as_deref(), smoothing);
        let is_train = settings.uses_batch_statistics(sets.training.len() as u64);
        let way = Way {
            loss,
            mode: if is_train { Mode::Train } else { Mode::Frozen },
            micro_batch: scene.micro_batch as usize,
            clip_norm: settings.clip_norm,
        };
        let plan = images.plan(sets.training, seed);
        let steps = plan.batch_count() * u64::from(plan.epochs());
        let position = Position {
            epoch: 0,
            batch: 0,
            step: 0,
            best_after: None,
            former_best: None,
            ended: None,
            seconds: 0.0,
            schedule: schedule(settings, steps),
            averaged: 0,
        };
        Ok(Self {
            scene,
            sets,
            images,
            learner,
            way,
            optimiser: Optimiser::new(rule(settings), groups(settings, architecture)),
            average: (settings.ema_decay > 0.0).then(|| Average::new(settings.ema_decay)),
            epochs: plan.epochs(),
            steps,
            position,
            best: Tensors::new(),
            done,
            begun: Instant::now(),
            saved: (Instant::now(), Duration::ZERO),
        })
    }

    /// Goes on from a checkpoint.
    pub(super) fn restore(&mut self, state: State) -> Result<(), TrainingError> {
        self.learner.set(&state.params)?;
        self.optimiser.restore(state.position.step, &state.moments)?;
        if let Some(average) = &mut self.average {
            average.restore(state.position.averaged, &state.average, &self.learner.params)?;
        }
        (self.position, self.best) = (state.position, state.best);
        let Position { epoch, batch, .. } = self.position;
        let line = format!("resumed from a checkpoint in epoch {} at batch {batch}", epoch + 1);
        Ok(self.scene.host.log(&line)?)
    }

    /// Trains to the end. What is done of it is kept when the worker has to go.
    pub(super) fn run(&mut self) -> Result<(), TrainingError> {
        let result = std::thread::scope(|scope| {
            let seed = self.scene.job.spec.seed_of(self.scene.repeat);
            let plan = self.images.plan(self.sets.training, seed);
            let place = Place { epoch: self.position.epoch, batch: self.position.batch };
            let mut stream =
                self.images.stream(scope, (self.sets.training, plan.clone()), place)?;
            // A start that was fitted is a candidate like any epoch: nothing worse is published.
            let is_new = self.position.step == 0 && self.position.best_after.is_none();
            if is_new && self.scene.job.spec.head.is_some() {
                let start = self.learner.moving()?;
                self.judge(start, 0)?;
            }
            while self.position.ended.is_none() {
                self.epoch(&plan.batches(self.position.epoch), &mut stream)?;
                self.close_epoch()?;
                let (at, took) = self.saved;
                if took.as_secs_f64() <= CHECKPOINT_SHARE * at.elapsed().as_secs_f64() {
                    self.save()?;
                }
            }
            Ok(())
        });
        if let Err(TrainingError::Stopped(Stop::HandedBack)) = &result {
            self.save()?;
        }
        result
    }

    /// The batches of the epoch that are still to be done, as far as the time goes.
    fn epoch(
        &mut self,
        batches: &[Vec<usize>],
        stream: &mut Stream<'_>,
    ) -> Result<(), TrainingError> {
        let every = Duration::from_secs(self.settings().checkpoint_seconds.into());
        for batch in batches.iter().skip(self.position.batch as usize) {
            if self.is_out_of_time() {
                self.position.ended = Some(Ended::TimeBudget);
                return Ok(());
            }
            let loss = self.step(batch, stream)?;
            self.scene.host.metric(&self.series("train_loss"), self.position.step, loss)?;
            let at = At {
                done: self.position.step,
                total: self.steps,
                epoch: Some(self.position.epoch + 1),
                repeat: (self.scene.job.spec.repeats > 1).then_some(self.scene.repeat + 1),
                loss: Some(loss),
                images: batch.len() as u64,
                allowance: self.allowance(),
            };
            self.scene.reporter.at(self.scene.stage, at)?;
            if self.saved.0.elapsed() >= every {
                self.save()?;
            }
        }
        Ok(())
    }

    /// One optimiser step; the mean loss of the batch before it.
    fn step(&mut self, batch: &[usize], stream: &mut Stream<'_>) -> Result<f64, TrainingError> {
        let examples = (self.sets.training, batch);
        let shown = self.images.next(stream, &self.learner, examples)?;
        let step = self.position.step + 1;
        let peak = self.settings().peak(self.scene.job.spec.method);
        let (loss, gradients) = match gradients(&self.learner, &shown, &self.way)? {
            Ok(found) => found,
            Err(broken) => {
                return Err(TrainingError::Diverged {
                    what: broken.what,
                    layer: broken.layer,
                    step,
                    epoch: self.position.epoch + 1,
                    learning_rate: peak,
                });
            }
        };
        let rate = self.position.schedule.rate(self.position.step, self.steps, peak);
        self.optimiser.step(&self.learner.params, &gradients, rate)?;
        if let Some(average) = &mut self.average {
            average.update(&self.learner.params)?;
            self.position.averaged = average.steps();
        }
        self.position.step = step;
        self.position.batch += 1;
        Ok(loss)
    }

    /// Validates, keeps the best epoch, and decides whether there is another.
    fn close_epoch(&mut self) -> Result<(), TrainingError> {
        let epoch = self.position.epoch;
        let present = match &self.average {
            Some(average) if average.steps() > 0 => self.learner.moving_of(average.state()?),
            Some(_) | None => self.learner.moving()?,
        };
        self.judge(present, epoch + 1)?;
        let settings = self.settings();
        let since_best = self.position.best_after.map_or(0, |(_, best)| epoch + 1 - best);
        let (epochs, patience) = (self.epochs, settings.patience);
        let steps_since = u64::from(since_best) * (self.steps / u64::from(epochs.max(1)));
        // Recipes without a head are of a time when patience was in epochs alone.
        let is_borne = self.scene.job.spec.head.is_some() && steps_since < LEAST_PATIENCE;
        self.position.epoch += 1;
        self.position.batch = 0;
        if self.position.ended.is_none() {
            self.position.ended = if since_best >= patience && !is_borne {
                Some(Ended::Patience)
            } else if self.position.epoch >= epochs {
                Some(Ended::AllEpochs)
            } else {
                None
            };
        }
        Ok(())
    }

    /// Validates `present` after so many epochs, and keeps it if it is the best so far.
    fn judge(&mut self, present: Tensors, epochs: u32) -> Result<(), TrainingError> {
        if self.sets.validation.is_empty() {
            return Ok(());
        }
        let found = self.validate(&present, epochs)?;
        if self.position.best_after.is_none_or(|(best, _)| found > best) {
            self.position.best_after = Some((found, epochs));
            self.best = present;
        }
        Ok(())
    }

    /// The score of the validation images, pictures as they are, with `present` in place.
    fn validate(&mut self, present: &Tensors, epochs: u32) -> Result<f64, TrainingError> {
        let own = self.average.is_some().then(|| self.learner.moving()).transpose()?;
        if own.is_some() {
            self.learner.set(present)?;
        }
        let host = self.scene.host;
        let goes_on = || match host.stop() {
            Some(stop) => Err(TrainingError::Stopped(stop)),
            None => Ok(()),
        };
        let logits = self.images.forward(&self.learner, self.sets.validation, goes_on);
        if let Some(own) = own {
            self.learner.set(&own)?;
        }
        let mut total = 0.0;
        let mut probabilities = Vec::with_capacity(self.sets.validation.len());
        for (mut row, example) in logits?.into_iter().zip(self.sets.validation) {
            let own = row[example.label];
            total += super::head::logistic::softmax(&mut row) - own;
            probabilities.push(row.into_iter().map(|p| p as f32).collect::<Vec<f32>>());
        }
        let loss = total / self.sets.validation.len() as f64;
        let judged: Vec<Judged<'_>> = self
            .sets
            .validation
            .iter()
            .zip(&probabilities)
            .map(|(example, probabilities)| Judged {
                truth: example.label,
                probabilities,
                patient: &example.patient,
            })
            .collect();
        self.tell(loss, &judged, epochs)
    }

    /// Puts a validation after so many epochs on record; its score.
    fn tell(
        &mut self,
        loss: f64,
        judged: &[Judged<'_>],
        epochs: u32,
    ) -> Result<f64, TrainingError> {
        let classes = self.scene.job.classes();
        let number = u64::from(epochs);
        if !loss.is_finite() {
            return Err(TrainingError::Diverged {
                what: "validation loss",
                layer: super::learner::HEAD_WEIGHT.to_owned(),
                step: self.position.step,
                epoch: self.position.epoch + 1,
                learning_rate: self.settings().peak(self.scene.job.spec.method),
            });
        }
        self.position.schedule.observe(loss);
        let scores = super::metrics::Scorer::new(judged, classes)?.score(&vec![1; judged.len()]);
        let host = self.scene.host;
        host.metric(&self.series("validation_loss"), number, loss)?;
        host.metric(&self.series("validation_accuracy"), number, scores.accuracy)?;
        if let Some(auroc) = scores.macro_auroc {
            host.metric(&self.series("validation_auroc"), number, auroc)?;
        }
        Ok(score(self.settings().select, loss, judged, classes)?)
    }

    /// The name of a curve, which says the repeat where there are several.
    fn series(&self, name: &str) -> String {
        match self.scene.repeat {
            0 => name.to_owned(),
            number => format!("{name}/{}", number + 1),
        }
    }

    fn settings(&self) -> &'a Training {
        &self.scene.job.spec.training
    }

    fn seconds(&self) -> f64 {
        self.position.seconds + self.begun.elapsed().as_secs_f64()
    }

    /// The share of the minutes allowed that each repeat has, in seconds.
    fn most_seconds(&self) -> Option<f64> {
        let repeats = f64::from(self.scene.job.spec.repeats);
        self.settings().max_minutes.map(|most| most * 60.0 / repeats)
    }

    fn is_out_of_time(&self) -> bool {
        self.most_seconds().is_some_and(|most| self.seconds() >= most)
    }

    /// What is left of the minutes, to this repeat and to those after it.
    fn allowance(&self) -> Option<Allowance> {
        let (most, seconds) = (self.most_seconds()?, self.seconds());
        let further = self.scene.job.spec.repeats - 1 - self.scene.repeat;
        let left_seconds = (most - seconds).max(0.0) + f64::from(further) * most;
        Some(Allowance { used: (seconds / most).min(1.0), left_seconds })
    }

    fn save(&mut self) -> Result<(), TrainingError> {
        let begun = Instant::now();
        let average = match &self.average {
            Some(average) => average.state()?,
            None => Tensors::new(),
        };
        let state = State {
            position: Position { seconds: self.seconds(), ..self.position.clone() },
            params: self.learner.moving()?,
            moments: self.optimiser.state()?,
            average,
            best: self.best.clone(),
            done: self.done.clone(),
        };
        let bytes = Bytes::from(state.to_bytes(self.scene.job.run)?);
        self.scene.host.save_checkpoint(bytes)?;
        let done = self.position.step as f64 / self.steps.max(1) as f64;
        self.scene.host.kept(self.scene.stage.share(done))?;
        self.saved = (Instant::now(), begun.elapsed());
        Ok(())
    }

    /// The model of the best epoch, and the repeats before it.
    pub(super) fn finish(self) -> Result<(Trained, Done), TrainingError> {
        let epochs = self.position.epoch;
        let (moving, epoch) = match (self.position.best_after, &self.average) {
            (Some((_, best)), _) => (self.best, best),
            (None, Some(average)) if average.steps() > 0 => {
                (self.learner.moving_of(average.state()?), epochs)
            }
            (None, Some(_) | None) => (self.learner.moving()?, epochs),
        };
        let architecture = self.scene.job.backbone.architecture;
        let recipe = Network {
            method: self.scene.job.spec.method,
            head: None,
            training_images: self.sets.training.len(),
            validation_images: self.sets.validation.len(),
            trained_parameters: self.learner.trained_parameters(),
            epoch,
            epochs,
            steps: self.position.step,
            ended: self.position.ended.unwrap_or(Ended::AllEpochs),
            normalised: match (architecture.has_batch_norm(), self.way.mode) {
                (false, _) => Normalised::Absent,
                (true, Mode::Frozen) => Normalised::Frozen,
                (true, Mode::Train) => Normalised::Batch,
            },
            micro_batch: self.scene.micro_batch,
        };
        let score = self.position.best_after.map(|(score, _)| score);
        let tensors = self.learner.published(&moving)?;
        Ok((Trained { tensors, score, recipe }, self.done))
    }
}
