//! Fine-tuning for a class as a task of the cycle: what its steps, its epochs and its checkpoints are.
//!
//! One task for the methods `last`, `full` and `lora`; they differ in what a [`Learner`] trains.

use std::time::Duration;

use super::learner::{HEAD_WEIGHT, Learner, Part};
use super::loss::SoftCrossEntropy;
use super::source::{Images, Stream, labels};
use super::state::{Position, State};
use super::step::{Way, gradients};
use crate::domain::imbalance::Imbalance;
use crate::domain::run::LEAST_PATIENCE;
use crate::domain::training::Training;
use crate::nn::optim::{Average, Optimiser, Schedule};
use crate::nn::{Gradients, Mode, Tensors};
use crate::training::classify::job::Job;
use crate::training::classify::recipe::{Network, Normalised};
use crate::training::classify::repeats::{Done, score};
use crate::training::cycle::{Closing, Cycle, Ended, Point, Stepped, Task, Terms, Watch};
use crate::training::data::example::Example;
use crate::training::data::{Plan, class_weights};
use crate::training::judge::judged::judged;
use crate::training::judge::metrics::{Judged, Scorer};
use crate::training::probe::logistic::softmax;
use crate::training::run::error::TrainingError;
use crate::training::run::host::Host;
use crate::training::run::rate::{groups, rule, schedule};
use crate::training::run::reporter::Stage;

/// The world of a repeat.
#[derive(Clone, Copy)]
pub(super) struct Scene<'a> {
    pub(super) job: &'a Job,
    pub(super) host: &'a dyn Host,
    pub(super) images: &'a Images<'a>,
    /// The number of the repeat, from 0.
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

/// The result of a repeat.
pub(super) struct Trained {
    /// Backbone and head of the best epoch.
    pub(super) tensors: Tensors,
    /// The score of that epoch, where there are validation images.
    pub(super) score: Option<f64>,
    pub(super) recipe: Network,
}

/// One repeat of fine-tuning for a class.
pub(super) struct Classification<'a> {
    scene: Scene<'a>,
    sets: Sets<'a>,
    learner: Learner,
    way: Way,
    optimiser: Optimiser,
    average: Option<Average>,
    /// The order of the batches.
    plan: Plan,
    /// Steps of all epochs.
    steps: u64,
    /// The batches of the present epoch.
    batches: Vec<Vec<usize>>,
    /// The best validation score so far (higher is better), and after how many epochs it was reached: 0
    /// for a fitted start.
    best_after: Option<(f64, u32)>,
    /// The trained tensors as they were then.
    best: Tensors,
    /// The schedule of the learning rate with its state.
    schedule: Schedule,
    /// Updates of the moving average.
    averaged: u64,
    /// The repeats before this one; a checkpoint carries them along.
    done: Done,
}

impl<'a> Classification<'a> {
    /// A repeat at its start: the backbone, and the head where there is one, in `start`.
    pub(super) fn new(
        scene: Scene<'a>,
        sets: Sets<'a>,
        start: Tensors,
        done: Done,
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
        let plan = scene.images.plan(sets.training, seed);
        let steps = plan.batch_count() * u64::from(plan.epochs());
        Ok(Self {
            scene,
            sets,
            learner,
            way,
            optimiser: Optimiser::new(rule(settings), groups(settings, architecture)),
            average: (settings.ema_decay > 0.0).then(|| Average::new(settings.ema_decay)),
            plan,
            steps,
            batches: Vec::new(),
            best_after: None,
            best: Tensors::new(),
            schedule: schedule(settings, steps),
            averaged: 0,
            done,
        })
    }

    /// The terms on how far it may go, as the part of the run that `stage` is.
    pub(super) fn terms(&self, stage: Stage) -> Terms {
        let (settings, repeats) = (self.settings(), self.scene.job.spec.repeats);
        Terms {
            epochs: self.plan.epochs(),
            steps: self.steps,
            least_steps: 0,
            // The share of the minutes allowed that each repeat has.
            most_seconds: settings.max_minutes.map(|most| most * 60.0 / f64::from(repeats)),
            further: repeats - 1 - self.scene.repeat,
            checkpoint_every: Duration::from_secs(settings.checkpoint_seconds.into()),
            stage,
            kept: stage,
            repeat: (repeats > 1).then_some(self.scene.repeat + 1),
        }
    }

    /// Trains to the end.
    pub(super) fn train(&mut self, cycle: &mut Cycle<'_>) -> Result<(), TrainingError> {
        std::thread::scope(|scope| {
            let (images, order) = (self.scene.images, (self.sets.training, self.plan.clone()));
            let mut stream = images.stream(scope, order, cycle.place())?;
            cycle.run(self, &mut stream)
        })
    }

    /// The gradients of a batch, or the error that says where they are none.
    fn gradients(
        &self,
        batch: &[usize],
        stream: &mut Stream<'_>,
        now: Point,
    ) -> Result<(f64, Gradients), TrainingError> {
        let examples = (self.sets.training, batch);
        let shown = self.scene.images.next(stream, &self.learner, examples)?;
        match gradients(&self.learner, &shown, &self.way)? {
            Ok(found) => Ok(found),
            Err(broken) => Err(TrainingError::Diverged {
                what: broken.what,
                layer: broken.layer,
                step: now.step + 1,
                epoch: now.epoch + 1,
                learning_rate: self.peak(),
            }),
        }
    }

    /// Validates `present` after so many epochs, and keeps it if it is the best so far.
    fn judge(&mut self, present: Tensors, epochs: u32, now: Point) -> Result<(), TrainingError> {
        if self.sets.validation.is_empty() {
            return Ok(());
        }
        let found = self.validate(&present, epochs, now)?;
        if self.best_after.is_none_or(|(best, _)| found > best) {
            self.best_after = Some((found, epochs));
            self.best = present;
        }
        Ok(())
    }

    /// The score of the validation images, pictures as they are, with `present` in place.
    fn validate(
        &mut self,
        present: &Tensors,
        epochs: u32,
        now: Point,
    ) -> Result<f64, TrainingError> {
        let own = self.average.is_some().then(|| self.learner.moving()).transpose()?;
        if own.is_some() {
            self.learner.set(present)?;
        }
        let host = self.scene.host;
        let goes_on = || match host.stop() {
            Some(stop) => Err(TrainingError::Stopped(stop)),
            None => Ok(()),
        };
        let logits = self.scene.images.forward(&self.learner, self.sets.validation, goes_on);
        if let Some(own) = own {
            self.learner.set(&own)?;
        }
        let mut total = 0.0;
        let mut probabilities = Vec::with_capacity(self.sets.validation.len());
        for (mut row, example) in logits?.into_iter().zip(self.sets.validation) {
            let own = row[example.class()];
            total += softmax(&mut row) - own;
            probabilities.push(row.into_iter().map(|p| p as f32).collect::<Vec<f32>>());
        }
        let loss = total / self.sets.validation.len() as f64;
        if !loss.is_finite() {
            return Err(TrainingError::Diverged {
                what: "validation loss",
                layer: HEAD_WEIGHT.to_owned(),
                step: now.step,
                epoch: now.epoch + 1,
                learning_rate: self.peak(),
            });
        }
        self.schedule.observe(loss);
        self.tell(loss, &judged(self.sets.validation, &probabilities), epochs)
    }

    /// Puts a validation after so many epochs on record; its score.
    fn tell(&self, loss: f64, judged: &[Judged<'_>], epochs: u32) -> Result<f64, TrainingError> {
        let (classes, number) = (self.scene.job.classes(), u64::from(epochs));
        let scores = Scorer::new(judged, classes)?.score(&vec![1; judged.len()]);
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

    /// The largest learning rate.
    fn peak(&self) -> f64 {
        self.settings().peak(self.scene.job.spec.method)
    }

    /// The model of the best epoch, and the repeats before it.
    pub(super) fn finish(self, end: Point) -> Result<(Trained, Done), TrainingError> {
        let epochs = end.epoch;
        let (moving, epoch) = match (self.best_after, &self.average) {
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
            steps: end.step,
            ended: end.ended.unwrap_or(Ended::AllEpochs),
            normalised: match (architecture.has_batch_norm(), self.way.mode) {
                (false, _) => Normalised::Absent,
                (true, Mode::Frozen) => Normalised::Frozen,
                (true, Mode::Train) => Normalised::Batch,
            },
            micro_batch: self.scene.micro_batch,
        };
        let score = self.best_after.map(|(score, _)| score);
        let tensors = self.learner.published(&moving)?;
        Ok((Trained { tensors, score, recipe }, self.done))
    }
}

impl Task for Classification<'_> {
    type Batches<'s> = Stream<'s>;
    type State = State;

    /// A start that was fitted is a candidate like any epoch: nothing worse is published.
    fn begin(&mut self, now: Point) -> Result<(), TrainingError> {
        let is_new = now.step == 0 && self.best_after.is_none();
        if is_new && self.scene.job.spec.head.is_some() {
            let start = self.learner.moving()?;
            self.judge(start, 0, now)?;
        }
        Ok(())
    }

    fn open_epoch(&mut self, epoch: u32) -> u64 {
        self.batches = self.plan.batches(epoch);
        self.batches.len() as u64
    }

    fn step(&mut self, stream: &mut Stream<'_>, now: Point) -> Result<Stepped, TrainingError> {
        let batch = &self.batches[now.batch as usize];
        let images = batch.len() as u64;
        let (loss, gradients) = self.gradients(batch, stream, now)?;
        let rate = self.schedule.rate(now.step, self.steps, self.peak());
        self.optimiser.step(&self.learner.params, &gradients, rate)?;
        if let Some(average) = &mut self.average {
            average.update(&self.learner.params)?;
            self.averaged = average.steps();
        }
        self.scene.host.metric(&self.series("train_loss"), now.step + 1, loss)?;
        Ok(Stepped { loss, batches: 1, images })
    }

    /// Validates, keeps the best epoch, and says when patience is at its end.
    fn close_epoch(&mut self, now: Point, _: &mut Watch<'_>) -> Result<Closing, TrainingError> {
        let present = match &self.average {
            Some(average) if average.steps() > 0 => self.learner.moving_of(average.state()?),
            Some(_) | None => self.learner.moving()?,
        };
        self.judge(present, now.epoch + 1, now)?;
        let since_best = self.best_after.map_or(0, |(_, best)| now.epoch + 1 - best);
        let (epochs, patience) = (self.plan.epochs(), self.settings().patience);
        let steps_since = u64::from(since_best) * (self.steps / u64::from(epochs.max(1)));
        // Recipes without a head are of a time when patience was in epochs alone.
        let is_borne = self.scene.job.spec.head.is_some() && steps_since < LEAST_PATIENCE;
        if since_best >= patience && !is_borne {
            Ok(Closing::Last(Ended::Patience))
        } else {
            Ok(Closing::Counted)
        }
    }

    fn write(&self, now: Point) -> Result<Vec<u8>, TrainingError> {
        let average = match &self.average {
            Some(average) => average.state()?,
            None => Tensors::new(),
        };
        let state = State {
            position: Position {
                epoch: now.epoch,
                batch: now.batch,
                step: now.step,
                best_after: self.best_after,
                former_best: None,
                ended: now.ended,
                seconds: now.seconds,
                schedule: self.schedule,
                averaged: self.averaged,
            },
            params: self.learner.moving()?,
            moments: self.optimiser.state()?,
            average,
            best: self.best.clone(),
            done: self.done.clone(),
        };
        state.to_bytes(self.scene.job.ground.run)
    }

    /// The repeats that the state tells of are already with this one.
    fn read(&mut self, state: State) -> Result<Point, TrainingError> {
        let position = state.position;
        self.learner.set(&state.params)?;
        self.optimiser.restore(position.step, &state.moments)?;
        if let Some(average) = &mut self.average {
            average.restore(position.averaged, &state.average, &self.learner.params)?;
        }
        self.best = state.best;
        self.best_after = position.best_after;
        self.schedule = position.schedule;
        self.averaged = position.averaged;
        Ok(position.point())
    }
}
