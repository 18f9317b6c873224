//! Pretraining on images without labels, from a frozen version to a backbone and its files.
//!
//! ```text
//! original ─decode─> Compact ─> Cache ─crop, colours─> two views and small crops ─> backbone
//! (Host)             own shape  memory, file           (seed, epoch, position, view)    │
//!           probe before ─> steps of an Objective (with a teacher, if it has one) <─────┘
//!                           ─> probe after ─> weights, graph, card: published or a candidate
//! ```

mod card;
mod colour;
mod crops;
mod feed;
mod gate;
mod job;
mod look;
mod made;
mod network;
mod publish;
mod state;
mod task;
mod views;

use std::sync::Arc;

pub use job::{Job, Judge, Pretrained, Start};

use crate::nn::weights::{load, random};
use crate::training::cycle::Cycle;
use crate::training::data::Making;
use crate::training::objective::{Objective, objective};
use crate::training::run::error::TrainingError;
use crate::training::run::host::Host;
use crate::training::run::reporter::{At, Reporter, Stage};
use feed::ViewFeed;
use gate::Gate;
use made::Made;
use publish::publish;
use state::State;
use task::{Pretraining, Scene};

/// Runs a job to its end, with the objective that it asks for.
pub fn pretrain(job: &Job, host: &dyn Host) -> Result<Pretrained, TrainingError> {
    let images = job.shown().0.len();
    with_objective(job, objective(&job.spec.objective, images), host)
}

/// Runs a job with an objective to its end. What is computed depends on the two alone: run again, or
/// resumed after any interruption, it gives the same weights, bit for bit. Only a limit of minutes
/// makes it depend on time.
pub fn with_objective(
    job: &Job,
    objective: Box<dyn Objective>,
    host: &dyn Host,
) -> Result<Pretrained, TrainingError> {
    let reporter = Reporter::new(host);
    let stage = |name, from, to| Stage { name, from, to };
    reporter.at(stage("preparing", 0.0, 0.0), At::default())?;
    let (shown, left_out) = job.shown();
    let images = shown.len();
    job.has_enough(images)?;
    let gate = Gate::of(job)?;
    host.log(&format!(
        "{images} images are learnt from; {} of a test split and {} that are test images of the \
         gate are left out",
        left_out.test, left_out.judged
    ))?;
    let feed = ViewFeed::new(job, host, shown);
    feed.look()?;
    let start = match &job.start {
        Start::Backbone { weights, .. } => load(weights)?,
        Start::Random => random(job.architecture, job.spec.seed)?,
    };
    let scene = Scene { job, host, gate: gate.as_ref() };
    let mut task = Pretraining::new(scene, start, objective, feed.plan().batch_count())?;
    let mut cycle = Cycle::new(host, &reporter, task.terms(stage("pretraining", 0.02, 0.95)));
    match host.checkpoint()? {
        Some(bytes) => {
            let state = State::from_bytes(&bytes)?;
            let is_known = |gate: &Gate<'_>| {
                state.before.as_ref().is_some_and(|before| gate.compares_with(before))
            };
            // What another version found before is found anew, while the network is the one before.
            if gate.as_ref().is_some_and(|gate| !is_known(gate)) {
                task.judge_before()?;
            }
            cycle.restore(&mut task, state)?;
        }
        None => {
            // Not asked again of a run that has fitted before: memory comes free.
            job.has_room()?;
            reporter.at(stage("probing before", 0.0, 0.02), At::default())?;
            task.judge_before()?;
        }
    }
    task.train(&mut cycle, Arc::new(feed))?;
    reporter.at(stage("probing after", 0.95, 0.98), At::default())?;
    let end = cycle.point();
    let comparison = match (&gate, task.before.take()) {
        (Some(gate), Some(before)) => Some(gate.compare(&before, &task.judge(gate, end.step)?)?),
        _ => None,
    };
    reporter.at(stage("publishing", 0.98, 1.0), At::default())?;
    let tensors = task.backbone()?;
    let position = task.position(end);
    publish(job, Made { tensors, position, comparison, images, left_out })
}
