//! Repeats of a linear probe: features computed once, a classifier fitted for each seed.

use std::collections::HashMap;
use std::ops::ControlFlow;

use candle_core::{Device, Tensor};

use super::features::features;
use super::job::Job;
use super::network::learner::{HEAD_BIAS, HEAD_WEIGHT};
use super::recipe::Recipe;
use super::repeats::{Done, Repeat, log_loss, score};
use crate::domain::Split;
use crate::nn::Tensors;
use crate::nn::weights::load;
use crate::training::data::example::{Example, Key};
use crate::training::data::glimpses::Glimpses;
use crate::training::judge::judged::judged;
use crate::training::probe::fit::fit as fit_head;
use crate::training::probe::head::{Probe, Sample};
use crate::training::run::error::TrainingError;
use crate::training::run::host::Host;
use crate::training::run::reporter::{At, Reporter, Stage};

/// Features by image.
type Features = HashMap<Key, Vec<f32>>;

/// Share of a run that fitting takes.
const FITTING: f64 = 0.07;

/// Share of a run after which features are computed: those of a random network may follow.
fn computed(job: &Job) -> f64 {
    if job.spec.random_baseline { 0.46 } else { 0.9 }
}

/// Share of a run after which the heads are fitted.
pub(super) fn fitted(job: &Job) -> f64 {
    computed(job) + FITTING
}

/// Fits every repeat. Without a checkpoint: what takes time, the features, is cached for good.
pub(super) fn probes(
    job: &Job,
    (test, glimpses): (&[&Example], &Glimpses),
    host: &dyn Host,
    reporter: &Reporter<'_>,
) -> Result<Done, TrainingError> {
    let repeats = job.spec.repeats;
    let draws = (0..repeats).map(|repeat| job.shots(job.spec.seed_of(repeat)));
    let draws: Vec<Vec<&Example>> = draws.collect::<Result<_, _>>()?;
    // One repeat needs no choice, and images that were learnt from cannot make one.
    let learnt_from = job.spec.learns_from_validation();
    let judges = repeats > 1 && !learnt_from;
    let validation = if judges { job.of(Split::Validation) } else { Vec::new() };
    let mut needed: Vec<&Example> = draws.iter().flatten().copied().collect();
    needed.extend(validation.iter().chain(test));
    // All in one go: the stage then has one bar, and the network is loaded once.
    let computing = Stage { name: "computing features", from: 0.0, to: computed(job) };
    let features = by_image(job, (&needed, glimpses), (host, reporter, computing))?;

    let backbone = load(&job.weights)?;
    let mut done = Done::default();
    for (repeat, training) in (0..).zip(draws) {
        let probe = fit(job, (&training, &features), repeat, (host, reporter))?;
        let of = |examples: &[&Example]| -> Vec<Vec<f32>> {
            let vectors = examples.iter().filter_map(|example| features.get(&example.key()));
            vectors.map(|vector| probe.head.probabilities(vector)).collect()
        };
        let score = if learnt_from {
            probe.facts.loss.map(|loss| -loss)
        } else if validation.is_empty() {
            None
        } else {
            let probabilities = of(&validation);
            let judged = judged(&validation, &probabilities);
            let loss = log_loss(&judged);
            Some(score(job.spec.training.select, loss, &judged, job.classes())?)
        };
        let probabilities = of(test);
        let tensors = with_head(job, &backbone, &probe)?;
        let recipe = Recipe::Probe { training_images: training.len(), head: probe.facts };
        let seed = job.spec.seed_of(repeat);
        done.add(Repeat { seed, score, recipe, probabilities }, tensors);
    }
    Ok(done)
}

/// Fits the head that each repeat of a training by gradients starts from, on features of the backbone
/// as it is.
pub(super) fn starts(
    job: &Job,
    glimpses: &Glimpses,
    host: &dyn Host,
    reporter: &Reporter<'_>,
    computing: Stage,
) -> Result<Vec<Probe>, TrainingError> {
    let draws = (0..job.spec.repeats).map(|repeat| job.shots(job.spec.seed_of(repeat)));
    let draws: Vec<Vec<&Example>> = draws.collect::<Result<_, _>>()?;
    let needed: Vec<&Example> = draws.iter().flatten().copied().collect();
    let features = by_image(job, (&needed, glimpses), (host, reporter, computing))?;
    let goes_on = |_: usize, _: usize, _: Option<f64>| match host.stop() {
        Some(_) => ControlFlow::Break(()),
        None => ControlFlow::Continue(()),
    };
    let mut fitted = Vec::with_capacity(draws.len());
    for (repeat, training) in (0..).zip(&draws) {
        let samples = samples(training, &features);
        let seed = job.spec.seed_of(repeat);
        match fit_head(&samples, job.classes(), seed, job.spec.head, &mut { goes_on }) {
            Ok(probe) => fitted.push(probe),
            Err(error) => {
                return Err(host.stop().map_or_else(|| error.into(), TrainingError::Stopped));
            }
        }
    }
    Ok(fitted)
}

/// Features of images, each computed once.
fn by_image(
    job: &Job,
    (examples, glimpses): (&[&Example], &Glimpses),
    (host, reporter, computing): (&dyn Host, &Reporter<'_>, Stage),
) -> Result<Features, TrainingError> {
    let mut seen = std::collections::HashSet::new();
    let mut needed = examples.to_vec();
    needed.retain(|example| seen.insert(example.key()));
    let vectors = features(job, (&needed, glimpses), host, reporter, computing)?;
    Ok(needed.iter().map(|example| example.key()).zip(vectors).collect())
}

fn samples<'a>(training: &[&'a Example], features: &'a Features) -> Vec<Sample<'a>> {
    let of = |example: &&'a Example| {
        let features = features.get(&example.key())?;
        Some(Sample { features, label: example.class(), patient: &example.patient })
    };
    training.iter().filter_map(of).collect()
}

/// A backbone with a fitted head.
pub(super) fn with_head(
    job: &Job,
    backbone: &Tensors,
    probe: &Probe,
) -> Result<Tensors, TrainingError> {
    let (size, cpu) = (job.backbone.architecture.embedding_size(), Device::Cpu);
    let mut tensors = backbone.clone();
    let weight = Tensor::from_slice(&probe.head.weight, (job.classes(), size), &cpu)?;
    let bias = Tensor::from_slice(&probe.head.bias, job.classes(), &cpu)?;
    tensors.insert(HEAD_WEIGHT.to_owned(), weight);
    tensors.insert(HEAD_BIAS.to_owned(), bias);
    Ok(tensors)
}

fn fit(
    job: &Job,
    (training, features): (&[&Example], &Features),
    repeat: u32,
    (host, reporter): (&dyn Host, &Reporter<'_>),
) -> Result<Probe, TrainingError> {
    let samples = samples(training, features);
    let repeats = job.spec.repeats;
    let share = |repeat: u32| computed(job) + FITTING * f64::from(repeat) / f64::from(repeats);
    let fitting = Stage { name: "fitting", from: share(repeat), to: share(repeat + 1) };
    let series = if repeat == 0 { "cv_loss".to_owned() } else { format!("cv_loss/{}", repeat + 1) };
    let mut trouble = None;
    let mut candidate = 0;
    let mut observe = |done: usize, total: usize, loss: Option<f64>| {
        let repeat = (repeats > 1).then_some(repeat + 1);
        let at = At { done: done as u64, total: total as u64, repeat, ..At::default() };
        let told = reporter.at(fitting, at).and_then(|()| {
            let Some(loss) = loss else { return Ok(()) };
            candidate += 1;
            Ok(host.metric(&series, candidate, loss)?)
        });
        match told {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                trouble = Some(error);
                ControlFlow::Break(())
            }
        }
    };
    let probe =
        fit_head(&samples, job.classes(), job.spec.seed_of(repeat), job.spec.head, &mut observe);
    match trouble {
        Some(error) => Err(error),
        None => Ok(probe?),
    }
}
