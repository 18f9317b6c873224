//! The source of the batches of training: pictures as they are varied, or activations of the frozen
//! part that are computed once.

use std::cell::RefCell;
use std::sync::Arc;
use std::thread::Scope;

use candle_core::{Device, Tensor};

use super::learner::Learner;
use super::step::Shown;
use crate::training::classify::features::input;
use crate::training::classify::job::Job;
use crate::training::data::activations::Activations;
use crate::training::data::example::Example;
use crate::training::data::{
    Drawing, Feed, Loader, Mixing, Pictures, Place, Plan, Prefetch, Source,
};
use crate::training::run::error::TrainingError;
use crate::training::run::host::Host;

/// Images of a batch that only goes forward.
const FORWARD_BATCH: usize = 16;

/// The images of a run: pictures decoded once, and what the frozen part makes of them.
pub(super) struct Images<'a> {
    job: &'a Job,
    host: &'a dyn Host,
    pictures: Arc<Pictures<'a>>,
    /// Kept where the same picture enters the trained part each time.
    activations: Option<RefCell<Activations>>,
}

/// Batches in the making.
pub(super) enum Stream<'a> {
    /// By threads of their own.
    Loaded(Loader<'a>),
    /// From kept activations, as they are asked for.
    Kept,
}

impl<'a> Images<'a> {
    /// The images of a job; `keeps` says whether what enters the trained part is always the same.
    pub(super) fn new(
        job: &'a Job,
        host: &'a dyn Host,
        keeps: bool,
    ) -> Result<Self, TrainingError> {
        let room = job.ground.limits.activation_cache_bytes;
        let kept = || Activations::new(&job.ground.scratch, room);
        let activations = if keeps { Some(RefCell::new(kept()?)) } else { None };
        let source = Source {
            host,
            limits: &job.ground.limits,
            preprocessing: &job.backbone.preprocessing,
            scratch: &job.ground.scratch,
        };
        Ok(Self { job, host, pictures: Arc::new(Pictures::new(source)), activations })
    }

    /// Whether activations of some images found no room and are computed each time.
    pub(super) fn overflows(&self) -> bool {
        self.activations.as_ref().is_some_and(|kept| kept.borrow().is_full())
    }

    /// The order of the training batches.
    pub(super) fn plan(&self, training: &[&Example], seed: u64) -> Plan {
        let settings = &self.job.spec.training;
        let drawing = Drawing {
            batch_size: settings.batch_size as usize,
            imbalance: settings.imbalance,
            seed,
            epochs: self.job.spec.epochs(training.len() as u64, self.job.is_validated()),
        };
        Plan::training(&labels(training), drawing)
    }

    /// Begins to make the batches of `plan` from `place` on.
    pub(super) fn stream<'scope>(
        &self,
        scope: &'scope Scope<'scope, '_>,
        (training, plan): (&'a [&'a Example], Plan),
        place: Place,
    ) -> Result<Stream<'scope>, TrainingError>
    where
        'a: 'scope,
    {
        if self.activations.is_some() {
            return Ok(Stream::Kept);
        }
        let settings = &self.job.spec.training;
        let feed = Feed::new(Arc::clone(&self.pictures), training, self.job.classes(), plan);
        let feed = feed.augmented(settings.augmentation()).mixed(settings.mixup);
        let prefetch = Prefetch::of(&feed, self.job.ground.threads);
        Ok(Stream::Loaded(Loader::start(scope, Arc::new(feed), place, prefetch)?))
    }

    /// The next batch of a stream: that of `indices`.
    pub(super) fn next(
        &self,
        stream: &mut Stream<'_>,
        learner: &Learner,
        (training, indices): (&[&Example], &[usize]),
    ) -> Result<Shown, TrainingError> {
        match stream {
            Stream::Kept => self.kept(learner, training, indices),
            Stream::Loaded(loader) => {
                let batch = loader.next().ok_or_else(|| {
                    candle_core::Error::Msg("the loader ended before its epochs".to_owned())
                })??;
                Ok(Shown { entered: learner.enter(&batch.input)?, targets: batch.targets })
            }
        }
    }

    /// Logits of each example, `[K]` in 64 bits, pictures as they are.
    pub(super) fn forward(
        &self,
        learner: &Learner,
        examples: &[&Example],
        mut goes_on: impl FnMut() -> Result<(), TrainingError>,
    ) -> Result<Vec<Vec<f64>>, TrainingError> {
        let plan = Plan::in_order(examples.len(), FORWARD_BATCH);
        let feed =
            Feed::new(Arc::clone(&self.pictures), examples, self.job.classes(), plan.clone());
        let mut logits = Vec::with_capacity(examples.len());
        for (batch, indices) in (0..).zip(plan.batches(0)) {
            goes_on()?;
            let entered = if self.activations.is_some() {
                self.kept(learner, examples, &indices)?.entered
            } else {
                let Some(batch) = feed.load(Place { epoch: 0, batch })? else { break };
                learner.enter(&batch.input)?
            };
            let found = learner.answers(&entered)?;
            logits.extend(found.to_dtype(candle_core::DType::F64)?.to_vec2::<f64>()?);
        }
        Ok(logits)
    }

    fn kept(
        &self,
        learner: &Learner,
        examples: &[&Example],
        indices: &[usize],
    ) -> Result<Shown, TrainingError> {
        let Some(kept) = &self.activations else {
            return Err(candle_core::Error::Msg("no activations are kept".to_owned()).into());
        };
        let mut kept = kept.borrow_mut();
        let side = self.job.backbone.preprocessing.size as usize;
        let mut values = Vec::new();
        for at in indices {
            let example = examples[*at];
            values.extend(kept.get(example.key(), || {
                let picture = input(self.job, example, self.host)?;
                learner.enter(&Tensor::from_vec(picture, (1, 3, side, side), &Device::Cpu)?)
            })?);
        }
        let labels: Vec<u32> = indices.iter().map(|at| examples[*at].class() as u32).collect();
        let classes = self.job.classes();
        let targets = Mixing::none(labels.len()).targets(&labels, classes);
        Ok(Shown {
            entered: kept.stack(indices.len(), values)?,
            targets: Tensor::from_vec(targets, (labels.len(), classes), &Device::Cpu)?,
        })
    }
}

/// Classes of examples.
pub(super) fn labels(examples: &[&Example]) -> Vec<u32> {
    examples.iter().map(|example| example.class() as u32).collect()
}
