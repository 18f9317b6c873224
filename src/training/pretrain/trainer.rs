//! The loop: epochs of steps on the views of whole batches, resumable anywhere between two steps.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use candle_core::{DType, Tensor};

use super::feed::{Batch, ViewFeed};
use super::gate::{Gate, Probed, mean};
use super::job::Job;
use super::look::picture;
use super::network::{Student, Teacher, backbone};
use super::state::{Position, State};
use crate::domain::pretrain::Learning;
use crate::nn::optim::{Groups, Optimiser, Schedule, clip_norm};
use crate::nn::{Encoder, Gradients, Params, Tensors};
use crate::training::checkpoint::Ended;
use crate::training::data::{Loader, Place, Prefetch};
use crate::training::error::TrainingError;
use crate::training::host::{Host, Stop};
use crate::training::objective::{Moment, Objective, Shown};
use crate::training::rate::{pace, settings};
use crate::training::reporter::{Allowance, At, Reporter, Stage};

/// A checkpoint at the end of an epoch may take this share of the time since the one before it.
const CHECKPOINT_SHARE: f64 = 0.1;
/// The least time between two pictures of a matched pair.
const PICTURES_APART: Duration = Duration::from_secs(10);
/// The time after which a long epoch shows another one before its end.
const PICTURE_EVERY: Duration = Duration::from_mins(1);

/// The newest point of each curve.
type Curves = Vec<(&'static str, f64)>;

/// The world of a run.
#[derive(Clone, Copy)]
pub(super) struct Scene<'a> {
    pub(super) job: &'a Job,
    pub(super) host: &'a dyn Host,
    pub(super) reporter: &'a Reporter<'a>,
    pub(super) gate: Option<&'a Gate<'a>>,
}

/// A run in training.
pub(super) struct Trainer<'a> {
    scene: Scene<'a>,
    pub(super) student: Student,
    teacher: Option<Teacher>,
    objective: Box<dyn Objective>,
    optimiser: Optimiser,
    schedule: Schedule,
    /// Batches of an epoch.
    in_epoch: u64,
    /// Steps of all epochs.
    steps: u64,
    pub(super) position: Position,
    /// What the gate found before the first step.
    pub(super) before: Option<Probed>,
    /// When this attempt began to train, moved on by the time that probes took.
    begun: Instant,
    /// When the newest checkpoint was finished, and how long it took.
    saved: (Instant, Duration),
    /// When a matched pair was last shown.
    shown: Option<Instant>,
    /// Whether a step has begun and not ended.
    is_within_step: bool,
}

impl<'a> Trainer<'a> {
    /// A run at its start, with the backbone `start` and the objective's first parameters.
    pub(super) fn new(
        scene: Scene<'a>,
        mut start: Tensors,
        objective: Box<dyn Objective>,
        in_epoch: u64,
    ) -> Result<Self, TrainingError> {
        let (job, learning) = (scene.job, &scene.job.spec.learning);
        let architecture = job.architecture;
        let channels = (architecture.embedding_size(), architecture.map_channels());
        start.extend(objective.initial(job.spec.seed, channels.0, channels.1)?);
        let student = Student::new(job, &start)?;
        let in_steps = in_epoch.div_ceil(u64::from(learning.accumulate.max(1)));
        let steps = in_steps * u64::from(learning.epochs);
        let first = Moment { seed: job.spec.seed, step: 0, steps, part: 0 };
        let teacher = match objective.teacher_momentum(first) {
            Some(_) => Some(Teacher::of(&student)?),
            None => None,
        };
        let rule = settings(learning.optimiser, learning.weight_decay);
        Ok(Self {
            scene,
            student,
            teacher,
            objective,
            optimiser: Optimiser::new(rule, Groups::uniform()),
            schedule: pace(learning, steps),
            in_epoch,
            steps,
            position: Position::default(),
            before: None,
            begun: Instant::now(),
            saved: (Instant::now(), Duration::ZERO),
            shown: None,
            is_within_step: false,
        })
    }

    /// Goes on from a checkpoint.
    pub(super) fn restore(&mut self, state: State) -> Result<(), TrainingError> {
        self.student.params.restore(&state.params)?;
        self.optimiser.restore(state.position.step, &state.moments)?;
        if let Some(teacher) = &self.teacher {
            teacher.params.restore(&state.teacher)?;
        }
        self.objective.restore(&state.objective)?;
        self.position = state.position;
        self.before = self.before.take().or(state.before);
        let Position { epoch, batch, .. } = self.position;
        let line = format!("resumed from a checkpoint in epoch {} at batch {batch}", epoch + 1);
        Ok(self.scene.host.log(&line)?)
    }

    /// Judges the backbone before the first step, unless that is known.
    pub(super) fn judge_before(&mut self) -> Result<(), TrainingError> {
        if let (Some(gate), None) = (self.scene.gate, &self.before) {
            self.before = Some(self.judge(gate)?);
        }
        Ok(())
    }

    /// The probe on the backbone as it is now, its AUROC a point of its curve.
    pub(super) fn judge(&mut self, gate: &Gate<'_>) -> Result<Probed, TrainingError> {
        let probed = gate.probe(self.result().0, self.scene.host)?;
        let auroc = mean(&gate.auroc(&probed)?);
        self.tell("probe_auroc", auroc)?;
        Ok(probed)
    }

    /// The backbone as it would be published now.
    pub(super) fn backbone(&self) -> Result<Tensors, TrainingError> {
        backbone(self.result().1)
    }

    /// What is judged and published: the network in training, or its teacher where that is the better
    /// one by the method.
    fn result(&self) -> (&Encoder, &Params) {
        match &self.teacher {
            Some(teacher) if self.objective.publishes_teacher() => {
                (&teacher.network, &teacher.params)
            }
            _ => (&self.student.network, &self.student.params),
        }
    }

    /// Trains to the end. What is done of it is kept when the worker has to go.
    pub(super) fn run(
        &mut self,
        feed: Arc<ViewFeed<'a>>,
        stage: Stage,
    ) -> Result<(), TrainingError> {
        self.begun = Instant::now();
        let result = std::thread::scope(|scope| {
            let place = Place { epoch: self.position.epoch, batch: self.position.batch };
            let prefetch = Prefetch::of(&*feed, self.scene.job.threads);
            let mut loader = Loader::start(scope, feed, place, prefetch)?;
            while self.position.ended.is_none() {
                self.epoch(&mut loader, stage)?;
                self.close_epoch()?;
                let (at, took) = self.saved;
                if took.as_secs_f64() <= CHECKPOINT_SHARE * at.elapsed().as_secs_f64() {
                    self.save()?;
                }
            }
            Ok(())
        });
        if let Err(TrainingError::Stopped(Stop::HandedBack)) = &result
            && !self.is_within_step
        {
            self.save()?;
        }
        result
    }

    /// The batches of the epoch that are still to be done, as far as the time goes.
    fn epoch(
        &mut self,
        batches: &mut Loader<'_, ViewFeed<'a>>,
        stage: Stage,
    ) -> Result<(), TrainingError> {
        let learning = self.learning();
        let every = Duration::from_secs(learning.checkpoint_seconds.into());
        while self.position.batch < self.in_epoch {
            if self.position.step > 0 && self.is_out_of_time() {
                self.position.ended = Some(Ended::TimeBudget);
                return Ok(());
            }
            let left = self.in_epoch - self.position.batch;
            let parts = left.min(u64::from(learning.accumulate.max(1)));
            let loss = self.step(batches, parts as u32)?;
            let at = At {
                done: self.position.step,
                total: self.steps,
                epoch: Some(self.position.epoch + 1),
                loss: Some(loss),
                images: parts * u64::from(learning.batch_size),
                allowance: self.allowance(),
                ..At::default()
            };
            self.scene.reporter.at(stage, at)?;
            if self.saved.0.elapsed() >= every {
                self.save()?;
            }
        }
        Ok(())
    }

    /// One step of the optimiser on the mean loss of `parts` batches; that loss before it.
    fn step(
        &mut self,
        batches: &mut Loader<'_, ViewFeed<'a>>,
        parts: u32,
    ) -> Result<f64, TrainingError> {
        let begun = Instant::now();
        let share = 1.0 / f64::from(parts);
        let (mut curves, mut sum) = (vec![("loss", 0.0)], Gradients::default());
        let mut newest = None;
        for part in 0..parts {
            let batch = batches.next().ok_or_else(|| {
                candle_core::Error::Msg("the loader ended before its epochs".to_owned())
            })??;
            // Statistics and what an objective remembers follow each part: a step left in the middle
            // is done again from the checkpoint before it.
            self.is_within_step = true;
            let (values, gradients) = self.gradients(&batch, self.moment(part))?;
            for (name, value) in values {
                match curves.iter_mut().find(|(known, _)| *known == name) {
                    Some((_, sum)) => *sum += value * share,
                    None => curves.push((name, value * share)),
                }
            }
            if parts == 1 {
                sum = gradients;
            } else {
                sum.accumulate(gradients, share)?;
            }
            newest = Some(batch);
        }
        let clip = self.learning().clip_norm;
        let norm = if clip > 0.0 { clip_norm(&mut sum, clip)? } else { sum.norm()? };
        if !norm.is_finite() {
            let layer = sum.first_not_finite()?.unwrap_or("all together").to_owned();
            return Err(self.diverged("gradient", layer));
        }
        let rate = self.rate();
        self.optimiser.step(&self.student.params, &sum, rate)?;
        if let Some(teacher) = &self.teacher
            && let Some(keep) = self.objective.teacher_momentum(self.moment(0))
        {
            teacher.follow(&self.student, keep)?;
        }
        self.position.step += 1;
        self.position.batch += u64::from(parts);
        self.is_within_step = false;
        let images = f64::from(parts) * f64::from(self.learning().batch_size);
        curves.push(("learning_rate", rate));
        curves.push(("images_per_second", images / begun.elapsed().as_secs_f64().max(1e-9)));
        for (name, value) in &curves {
            self.tell(name, *value)?;
        }
        if let Some(batch) = newest {
            self.show(&batch)?;
        }
        Ok(curves[0].1)
    }

    /// The curves of a batch, its loss first, and the gradients of that.
    fn gradients(
        &mut self,
        batch: &Batch,
        moment: Moment,
    ) -> Result<(Curves, Gradients), TrainingError> {
        let views = self.student.views(batch)?;
        let answers = match &self.teacher {
            Some(teacher) => Some(teacher.embeddings(batch)?),
            None => None,
        };
        let shown = Shown { views: &views, teacher: answers.as_ref() };
        let teacher = self.teacher.as_ref().map(|teacher| &teacher.params);
        let scored = self.objective.loss(&self.student.params, teacher, &shown, moment)?;
        let loss = scalar(&scored.loss)?;
        if !loss.is_finite() {
            let layer = self.student.where_numbers_end(batch)?;
            return Err(self.diverged("loss", layer));
        }
        let gradients = self.student.backward(&scored.loss)?;
        let mut curves = vec![("loss", loss)];
        curves.extend(scored.series);
        curves.extend(self.objective.after_backward());
        Ok((curves, gradients))
    }

    /// Shows how the newest batch was matched: at once, at the end of an epoch, and now and then
    /// within a long one.
    fn show(&mut self, batch: &Batch) -> Result<(), TrainingError> {
        let closes = self.position.batch >= self.in_epoch;
        let is_due = self
            .shown
            .is_none_or(|at| at.elapsed() >= if closes { PICTURES_APART } else { PICTURE_EVERY });
        if is_due && let Some(pair) = self.objective.matched() {
            let picture = picture(&pair, batch, &self.scene.job.preprocessing)?;
            self.scene.host.show(self.position.step, &picture)?;
            self.shown = Some(Instant::now());
        }
        Ok(())
    }

    /// Counts the epoch, judges it where that is asked for, and decides whether there is another.
    fn close_epoch(&mut self) -> Result<(), TrainingError> {
        if self.position.ended.is_some() {
            return Ok(());
        }
        let (epoch, epochs) = (self.position.epoch + 1, self.learning().epochs);
        // Before it counts as closed: whoever is stopped here comes back here.
        if let Some(gate) = self.scene.gate
            && epoch < epochs
            && gate.every().is_some_and(|every| epoch.is_multiple_of(every))
        {
            let begun = Instant::now();
            let judged = self.judge(gate);
            self.begun += begun.elapsed();
            judged?;
        }
        (self.position.epoch, self.position.batch) = (epoch, 0);
        if epoch >= epochs {
            self.position.ended = Some(Ended::AllEpochs);
        }
        Ok(())
    }

    /// Puts a point of a curve on record.
    fn tell(&mut self, name: &str, value: f64) -> Result<(), TrainingError> {
        if !value.is_finite() {
            // A bound that was not computed is no point of a curve.
            return Ok(());
        }
        self.scene.host.metric(name, self.position.step, value)?;
        self.position.first.entry(name.to_owned()).or_insert(value);
        self.position.latest.insert(name.to_owned(), value);
        Ok(())
    }

    fn diverged(&self, what: &'static str, layer: String) -> TrainingError {
        TrainingError::Diverged {
            what,
            layer,
            step: self.position.step + 1,
            epoch: self.position.epoch + 1,
            learning_rate: self.learning().learning_rate,
        }
    }

    fn moment(&self, part: u32) -> Moment {
        let (seed, step) = (self.scene.job.spec.seed, self.position.step);
        Moment { seed, step, steps: self.steps, part }
    }

    fn rate(&self) -> f64 {
        self.schedule.rate(self.position.step, self.steps, self.learning().learning_rate)
    }

    fn learning(&self) -> &'a Learning {
        &self.scene.job.spec.learning
    }

    fn seconds(&self) -> f64 {
        self.position.seconds + self.begun.elapsed().as_secs_f64()
    }

    fn is_out_of_time(&self) -> bool {
        self.learning().max_minutes.is_some_and(|most| self.seconds() >= most * 60.0)
    }

    /// What is left of the minutes.
    fn allowance(&self) -> Option<Allowance> {
        let (most, seconds) = (self.learning().max_minutes? * 60.0, self.seconds());
        let left_seconds = (most - seconds).max(0.0);
        Some(Allowance { used: (seconds / most).min(1.0), left_seconds })
    }

    fn save(&mut self) -> Result<(), TrainingError> {
        let begun = Instant::now();
        let teacher = match &self.teacher {
            Some(teacher) => teacher.params.snapshot()?,
            None => Tensors::new(),
        };
        let state = State {
            position: Position { seconds: self.seconds(), ..self.position.clone() },
            before: self.before.clone(),
            params: self.student.params.snapshot()?,
            moments: self.optimiser.state()?,
            teacher,
            objective: self.objective.state()?,
        };
        let bytes = Bytes::from(state.to_bytes(self.scene.job.run)?);
        self.scene.host.save_checkpoint(bytes)?;
        self.scene.host.kept(self.position.step as f64 / self.steps.max(1) as f64)?;
        self.saved = (Instant::now(), begun.elapsed());
        Ok(())
    }
}

fn scalar(loss: &Tensor) -> candle_core::Result<f64> {
    loss.to_dtype(DType::F64)?.to_scalar::<f64>()
}
