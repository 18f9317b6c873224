//! Pretraining as a task of the cycle: steps on the views of whole batches, with an objective.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

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
use crate::training::cycle::{Closing, Cycle, Point, Stepped, Task, Terms, Watch};
use crate::training::data::{Loader, Prefetch};
use crate::training::objective::{Moment, Objective, Shown};
use crate::training::run::error::TrainingError;
use crate::training::run::host::Host;
use crate::training::run::rate::{pace, settings};
use crate::training::run::reporter::Stage;

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
    pub(super) gate: Option<&'a Gate<'a>>,
}

/// A backbone that is pretrained.
pub(super) struct Pretraining<'a> {
    scene: Scene<'a>,
    student: Student,
    teacher: Option<Teacher>,
    objective: Box<dyn Objective>,
    optimiser: Optimiser,
    schedule: Schedule,
    /// Batches of an epoch.
    in_epoch: u64,
    /// Steps of all epochs.
    steps: u64,
    /// The newest point of each curve.
    latest: BTreeMap<String, f64>,
    /// The first point of each curve.
    first: BTreeMap<String, f64>,
    /// The finding of the gate before the first step.
    pub(super) before: Option<Probed>,
    /// The time at which a matched pair was last shown.
    shown: Option<Instant>,
    /// Whether a step has begun and not ended.
    is_within_step: bool,
}

impl<'a> Pretraining<'a> {
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
            latest: BTreeMap::new(),
            first: BTreeMap::new(),
            before: None,
            shown: None,
            is_within_step: false,
        })
    }

    /// The terms on how far it may go, as the part of the run that `stage` is.
    pub(super) fn terms(&self, stage: Stage) -> Terms {
        let learning = self.learning();
        Terms {
            epochs: learning.epochs,
            steps: self.steps,
            least_steps: 1,
            most_seconds: learning.max_minutes.map(|most| most * 60.0),
            further: 0,
            checkpoint_every: Duration::from_secs(learning.checkpoint_seconds.into()),
            stage,
            kept: Stage { name: stage.name, from: 0.0, to: 1.0 },
            repeat: None,
        }
    }

    /// Judges the backbone before the first step, unless that is known.
    pub(super) fn judge_before(&mut self) -> Result<(), TrainingError> {
        if let (Some(gate), None) = (self.scene.gate, &self.before) {
            self.before = Some(self.judge(gate, 0)?);
        }
        Ok(())
    }

    /// The probe on the backbone as it is after so many steps, its AUROC a point of its curve.
    pub(super) fn judge(&mut self, gate: &Gate<'_>, step: u64) -> Result<Probed, TrainingError> {
        let probed = gate.probe(self.result().0, self.scene.host)?;
        let auroc = mean(&gate.auroc(&probed)?);
        self.tell("probe_auroc", step, auroc)?;
        Ok(probed)
    }

    /// The backbone as it would be published now.
    pub(super) fn backbone(&self) -> Result<Tensors, TrainingError> {
        backbone(self.result().1)
    }

    /// The network that is judged and published: the one in training, or its teacher where that is
    /// the better one by the method.
    fn result(&self) -> (&Encoder, &Params) {
        match &self.teacher {
            Some(teacher) if self.objective.publishes_teacher() => {
                (&teacher.network, &teacher.params)
            }
            _ => (&self.student.network, &self.student.params),
        }
    }

    /// Trains to the end.
    pub(super) fn train(
        &mut self,
        cycle: &mut Cycle<'_>,
        feed: Arc<ViewFeed<'a>>,
    ) -> Result<(), TrainingError> {
        std::thread::scope(|scope| {
            let prefetch = Prefetch::of(&*feed, self.scene.job.ground.threads);
            let mut loader = Loader::start(scope, feed, cycle.place(), prefetch)?;
            cycle.run(self, &mut loader)
        })
    }

    /// The place where it is, with the points of its curves.
    pub(super) fn position(&self, now: Point) -> Position {
        Position {
            epoch: now.epoch,
            batch: now.batch,
            step: now.step,
            ended: now.ended,
            seconds: now.seconds,
            latest: self.latest.clone(),
            first: self.first.clone(),
        }
    }

    /// The curves of a batch, its loss first, and the gradients of that.
    fn gradients(
        &mut self,
        batch: &Batch,
        part: u32,
        now: Point,
    ) -> Result<(Curves, Gradients), TrainingError> {
        let moment = self.moment(now, part);
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
            let layer = self.student.first_non_finite(batch)?;
            return Err(self.diverged("loss", layer, now));
        }
        let gradients = self.student.backward(&scored.loss)?;
        let mut curves = vec![("loss", loss)];
        curves.extend(scored.series);
        curves.extend(self.objective.after_backward());
        Ok((curves, gradients))
    }

    /// Follows the gradients of a step, and lets the teacher follow; the learning rate.
    fn follow(&mut self, gradients: &Gradients, now: Point) -> Result<f64, TrainingError> {
        let peak = self.learning().learning_rate;
        let rate = self.schedule.rate(now.step, self.steps, peak);
        self.optimiser.step(&self.student.params, gradients, rate)?;
        if let Some(teacher) = &self.teacher
            && let Some(keep) = self.objective.teacher_momentum(self.moment(now, 0))
        {
            teacher.follow(&self.student, keep)?;
        }
        Ok(rate)
    }

    /// Shows how the newest batch was matched, as soon as the newest picture is old enough.
    fn show(&mut self, batch: &Batch, step: u64, age: Duration) -> Result<(), TrainingError> {
        let now = self.scene.host.now();
        let is_due = self.shown.is_none_or(|at| now.duration_since(at) >= age);
        if is_due && let Some(pair) = self.objective.matched() {
            let picture = picture(&pair, batch, &self.scene.job.preprocessing)?;
            self.scene.host.show(step, &picture)?;
            self.shown = Some(self.scene.host.now());
        }
        Ok(())
    }

    /// Puts a point of a curve on record.
    fn tell(&mut self, name: &str, step: u64, value: f64) -> Result<(), TrainingError> {
        if !value.is_finite() {
            // A bound that was not computed is no point of a curve.
            return Ok(());
        }
        self.scene.host.metric(name, step, value)?;
        self.first.entry(name.to_owned()).or_insert(value);
        self.latest.insert(name.to_owned(), value);
        Ok(())
    }

    fn diverged(&self, what: &'static str, layer: String, now: Point) -> TrainingError {
        TrainingError::Diverged {
            what,
            layer,
            step: now.step + 1,
            epoch: now.epoch + 1,
            learning_rate: self.learning().learning_rate,
        }
    }

    fn moment(&self, now: Point, part: u32) -> Moment {
        Moment { seed: self.scene.job.spec.seed, step: now.step, steps: self.steps, part }
    }

    fn learning(&self) -> &'a Learning {
        &self.scene.job.spec.learning
    }
}

impl<'a> Task for Pretraining<'a> {
    type Batches<'s> = Loader<'s, ViewFeed<'a>>;
    type State = State;

    fn open_epoch(&mut self, _: u32) -> u64 {
        self.in_epoch
    }

    /// One step of the optimiser on the mean loss of several batches.
    fn step(
        &mut self,
        batches: &mut Loader<'_, ViewFeed<'a>>,
        now: Point,
    ) -> Result<Stepped, TrainingError> {
        let begun = self.scene.host.now();
        let left = self.in_epoch - now.batch;
        let parts = left.min(u64::from(self.learning().accumulate.max(1)));
        let share = 1.0 / parts as f64;
        let (mut curves, mut sum) = (vec![("loss", 0.0)], Gradients::default());
        let mut newest = None;
        for part in 0..parts as u32 {
            let batch = batches.next().ok_or_else(|| {
                candle_core::Error::Msg("the loader ended before its epochs".to_owned())
            })??;
            // Statistics and what an objective remembers follow each part: a step left in the middle
            // is done again from the checkpoint before it.
            self.is_within_step = true;
            let (values, gradients) = self.gradients(&batch, part, now)?;
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
            return Err(self.diverged("gradient", layer, now));
        }
        let rate = self.follow(&sum, now)?;
        self.is_within_step = false;
        let images = parts * u64::from(self.learning().batch_size);
        let seconds = self.scene.host.now().duration_since(begun).as_secs_f64();
        curves.push(("learning_rate", rate));
        curves.push(("images_per_second", images as f64 / seconds.max(1e-9)));
        for (name, value) in &curves {
            self.tell(name, now.step + 1, *value)?;
        }
        if let Some(batch) = newest {
            // At once, at the end of an epoch, and now and then within a long one.
            let closes = now.batch + parts >= self.in_epoch;
            let age = if closes { PICTURES_APART } else { PICTURE_EVERY };
            self.show(&batch, now.step + 1, age)?;
        }
        Ok(Stepped { loss: curves[0].1, batches: parts, images })
    }

    /// Judges the epoch where that is asked for, in time that does not count.
    fn close_epoch(&mut self, now: Point, watch: &mut Watch<'_>) -> Result<Closing, TrainingError> {
        if now.ended.is_some() {
            return Ok(Closing::Uncounted);
        }
        let (epoch, epochs) = (now.epoch + 1, self.learning().epochs);
        if let Some(gate) = self.scene.gate
            && epoch < epochs
            && gate.every().is_some_and(|every| epoch.is_multiple_of(every))
        {
            watch.aside(|| self.judge(gate, now.step))?;
        }
        Ok(Closing::Counted)
    }

    fn is_between_steps(&self) -> bool {
        !self.is_within_step
    }

    fn write(&self, now: Point) -> Result<Vec<u8>, TrainingError> {
        let teacher = match &self.teacher {
            Some(teacher) => teacher.params.snapshot()?,
            None => Tensors::new(),
        };
        let state = State {
            position: self.position(now),
            before: self.before.clone(),
            params: self.student.params.snapshot()?,
            moments: self.optimiser.state()?,
            teacher,
            objective: self.objective.state()?,
        };
        state.to_bytes(self.scene.job.ground.run)
    }

    fn read(&mut self, state: State) -> Result<Point, TrainingError> {
        let point = state.position.point();
        self.student.params.restore(&state.params)?;
        self.optimiser.restore(point.step, &state.moments)?;
        if let Some(teacher) = &self.teacher {
            teacher.params.restore(&state.teacher)?;
        }
        self.objective.restore(&state.objective)?;
        let Position { latest, first, .. } = state.position;
        (self.latest, self.first) = (latest, first);
        self.before = self.before.take().or(state.before);
        Ok(point)
    }
}

fn scalar(loss: &Tensor) -> candle_core::Result<f64> {
    loss.to_dtype(DType::F64)?.to_scalar::<f64>()
}
