//! Repeats of training by gradients: each from the backbone anew, judged on the same test images.

use super::source::Images;
use super::state::State;
use super::task::{Classification, Scene, Sets};
use crate::domain::Split;
use crate::domain::forecast::TooLarge;
use crate::domain::run::Method;
use crate::nn::weights::load;
use crate::training::classify::features::of_network;
use crate::training::classify::job::Job;
use crate::training::classify::pack::onnx;
use crate::training::classify::probes::{starts, with_head};
use crate::training::classify::recipe::{Network, Recipe};
use crate::training::classify::repeats::{Done, Repeat};
use crate::training::cycle::Cycle;
use crate::training::data::example::Example;
use crate::training::data::glimpses::Glimpses;
use crate::training::run::error::TrainingError;
use crate::training::run::host::Host;
use crate::training::run::reporter::{Reporter, Stage};

/// Share of a run that the heads take which training starts from.
const START: f64 = 0.1;

/// Share of a run after which all repeats are trained: a random network may follow.
pub(in crate::training::classify) fn trained(job: &Job) -> f64 {
    if job.spec.random_baseline { 0.9 } else { 0.99 }
}

/// Trains every repeat, from the run's checkpoint where there is one.
pub(in crate::training::classify) fn networks(
    job: &Job,
    (test, glimpses): (&[&Example], &Glimpses),
    host: &dyn Host,
    reporter: &Reporter<'_>,
) -> Result<Done, TrainingError> {
    let settings = &job.spec.training;
    let keeps = job.spec.method == Method::Last && !settings.varies();
    let images = Images::new(job, host, keeps)?;
    let validation = job.of(Split::Validation);
    let start = load(&job.weights)?;
    let micro_batch = settle(job, host)?;
    say(job, host, micro_batch)?;
    let mut state = match host.checkpoint()? {
        Some(bytes) => Some(State::from_bytes(&bytes)?),
        None => None,
    };
    let mut done =
        state.as_mut().map_or_else(Done::default, |state| std::mem::take(&mut state.done));
    let begun = done.repeats.len() as u32;
    // Recipes without a head are of a time when training began with a random one.
    let computing = Stage { name: "computing features", from: 0.0, to: START };
    let heads = match job.spec.head {
        Some(_) => starts(job, glimpses, host, reporter, computing)?,
        None => Vec::new(),
    };
    let from = if heads.is_empty() { 0.0 } else { START };
    let end = trained(job);
    for repeat in begun..job.spec.repeats {
        let seed = job.spec.seed_of(repeat);
        let training = job.shots(seed)?;
        let sets = Sets { training: &training, validation: &validation };
        let share =
            |at: f64| from + (end - from) * (f64::from(repeat) + at) / f64::from(job.spec.repeats);
        let stage = Stage { name: "training", from: share(0.0), to: share(0.95) };
        let scene = Scene { job, host, images: &images, repeat, micro_batch };
        let head = heads.get(repeat as usize);
        let start = match head {
            Some(head) => with_head(job, &start, head)?,
            None => start.clone(),
        };
        let mut task = Classification::new(scene, sets, start, done)?;
        let mut cycle = Cycle::new(host, reporter, task.terms(stage));
        if let Some(state) = state.take() {
            cycle.restore(&mut task, state)?;
        }
        task.train(&mut cycle)?;
        let (trained, before) = task.finish(cycle.point())?;
        done = before;
        let file = tempfile::NamedTempFile::new_in(&job.ground.scratch)?;
        std::fs::write(file.path(), onnx(job, &trained.tensors)?)?;
        let evaluating = Stage { name: "evaluating", from: share(0.95), to: share(1.0) };
        let shown = (test, glimpses);
        let outputs = of_network(job, file.path(), shown, host, reporter, evaluating)?;
        let probabilities = outputs.into_iter().map(|output| output.probabilities).collect();
        let head = head.map(|head| head.facts.clone());
        let recipe = Recipe::Network(Network { head, ..trained.recipe });
        done.add(Repeat { seed, score: trained.score, recipe, probabilities }, trained.tensors);
    }
    if images.overflows() {
        host.log(
            "not all activations of the frozen part found room on disk; they were computed again \
             each time (LVMED_LIMIT_ACTIVATION_CACHE_BYTES)",
        )?;
    }
    Ok(done)
}

/// The number of images computed at a time: as settled in an earlier attempt, else as asked, else as
/// the memory allows.
fn settle(job: &Job, host: &dyn Host) -> Result<u32, TrainingError> {
    if let Some(settled) = job.ground.provenance.micro_batch {
        return Ok(settled);
    }
    let settings = &job.spec.training;
    let images = job.shots(job.spec.seed)?.len().max(1) as u32;
    let batch = settings.batch_size.min(images);
    let wanted = settings.micro_batch.unwrap_or(batch).min(batch);
    let Some(calibration) = &job.ground.calibration else {
        host.settle(wanted)?;
        return Ok(wanted);
    };
    let available_bytes = job.ground.memory_bytes;
    let Some(fits) = calibration.micro_batch(wanted, available_bytes) else {
        let needed_bytes = calibration.bytes(1);
        return Err(TrainingError::TooLarge(TooLarge { needed_bytes, available_bytes }));
    };
    if fits < wanted {
        host.log(&format!(
            "{fits} images are computed at a time, and their gradients added up to those of the \
             batch of {batch}: {wanted} at a time would need about {} MB, {} MB may be used",
            calibration.bytes(wanted) / 1_000_000,
            available_bytes / 1_000_000
        ))?;
    }
    host.settle(fits)?;
    Ok(fits)
}

/// Puts on record what was chosen for the user.
fn say(job: &Job, host: &dyn Host, micro_batch: u32) -> Result<(), TrainingError> {
    let settings = &job.spec.training;
    let images = job.shots(job.spec.seed)?.len();
    if job.backbone.architecture.has_batch_norm() {
        let is_train = settings.uses_batch_statistics(images as u64);
        if is_train && micro_batch < settings.batch_size.min(images as u32) {
            host.log(&format!(
                "the statistics of normalisation are those of {micro_batch} images each, not of \
                 the whole batch; batch_norm `frozen` makes the parts add up to the whole"
            ))?;
        }
        let statistics = if settings.uses_batch_statistics(images as u64) {
            "follows the batches"
        } else {
            "keeps the pretrained statistics"
        };
        host.log(&format!("batch normalisation {statistics}, with {images} training images"))?;
    }
    if job.spec.method == Method::Last {
        let line = if settings.varies() {
            "the frozen part is computed anew in every step, because the pictures vary: augment \
             `none` without mixup would compute it once an image"
        } else {
            "the frozen part is computed once an image and kept on disk"
        };
        host.log(line)?;
    }
    Ok(())
}
