//! The answers of a frozen network to images, computed once: what is cached is not computed again, by
//! any run.

use std::path::Path;

use rayon::prelude::*;

use super::job::Job;
use crate::imaging::{normalise, square};
use crate::inference::{Network, Output};
use crate::training::data::example::Example;
use crate::training::data::glimpses::Glimpses;
use crate::training::data::prepared::{decoded, images_at_a_time, prepared};
use crate::training::run::error::TrainingError;
use crate::training::run::host::{CachedFeatures, Host};
use crate::training::run::reporter::{At, Reporter, Stage};

/// The feature vector of each example, in their order.
///
/// On a processor the features of an image do not depend on the images beside it, so that a resumed
/// run, which computes only what is missing, finds the same ones.
pub(super) fn features(
    job: &Job,
    (examples, glimpses): (&[&Example], &Glimpses),
    host: &dyn Host,
    reporter: &Reporter<'_>,
    stage: Stage,
) -> Result<Vec<Vec<f32>>, TrainingError> {
    let blobs: Vec<_> = examples.iter().map(|example| example.blob).collect();
    let mut known: CachedFeatures = host.cached_features(&blobs)?;
    let missing: Vec<&Example> =
        examples.iter().copied().filter(|example| !known.contains_key(&example.key())).collect();
    let total = examples.len() as u64;
    let mut done = total - missing.len() as u64;
    if done > 0 {
        host.log(&format!("the features of {done} of {total} images are known already"))?;
    }
    reporter.at(stage, At { done, total, ..At::default() })?;
    if !missing.is_empty() {
        let mut network = job.ground.runtime.open(&job.onnx, job.ground.threads)?;
        each_batch(job, &mut network, (&missing, glimpses), host, |batch, output| {
            let length = output.embedding.len() / batch.len();
            let vectors = output.embedding.chunks_exact(length).map(<[f32]>::to_vec);
            let found: Vec<_> = batch.iter().map(|example| example.key()).zip(vectors).collect();
            host.cache_features(&found)?;
            known.extend(found);
            done += batch.len() as u64;
            host.kept(stage.share(done as f64 / total as f64))?;
            let at = At { done, total, images: batch.len() as u64, ..At::default() };
            reporter.at(stage, at)
        })?;
    }
    Ok(examples
        .iter()
        .map(|example| known.get(&example.key()).cloned().unwrap_or_default())
        .collect())
}

/// The features and probabilities by a finished network file for each example, in their order;
/// nothing is cached.
pub(super) fn of_network(
    job: &Job,
    file: &Path,
    (examples, glimpses): (&[&Example], &Glimpses),
    host: &dyn Host,
    reporter: &Reporter<'_>,
    stage: Stage,
) -> Result<Vec<OfImage>, TrainingError> {
    let mut network = job.ground.runtime.open(file, job.ground.threads)?;
    let total = examples.len() as u64;
    let mut found: Vec<OfImage> = Vec::with_capacity(examples.len());
    each_batch(job, &mut network, (examples, glimpses), host, |batch, output| {
        let each = |values: &[f32]| -> Vec<Vec<f32>> {
            let length = (values.len() / batch.len()).max(1);
            values.chunks_exact(length).map(<[f32]>::to_vec).collect()
        };
        let probabilities = each(&output.probabilities.unwrap_or_default());
        let mut probabilities = probabilities.into_iter();
        found.extend(each(&output.embedding).into_iter().map(|embedding| OfImage {
            embedding,
            probabilities: probabilities.next().unwrap_or_default(),
        }));
        let (done, images) = (found.len() as u64, batch.len() as u64);
        reporter.at(stage, At { done, total, images, ..At::default() })
    })?;
    Ok(found)
}

/// The answer of a network to one image.
pub(super) struct OfImage {
    pub(super) embedding: Vec<f32>,
    /// Of each class; none of a network without a head.
    pub(super) probabilities: Vec<f32>,
}

/// Gives `then` each batch of the examples, in their order, with what the network says of it. The
/// pictures of the next batch are prepared meanwhile.
fn each_batch(
    job: &Job,
    network: &mut Network,
    (examples, glimpses): (&[&Example], &Glimpses),
    host: &dyn Host,
    mut then: impl FnMut(&[&Example], Output) -> Result<(), TrainingError>,
) -> Result<(), TrainingError> {
    let mut batches = examples.chunks(images_at_a_time(job.backbone.preprocessing.size as usize));
    let Some(mut batch) = batches.next() else { return Ok(()) };
    let mut pictures = inputs(job, (batch, glimpses), host)?;
    loop {
        let next = batches.next();
        let (output, coming) = rayon::join(
            || network.run(&pictures, batch.len()),
            || next.map(|next| inputs(job, (next, glimpses), host)).transpose(),
        );
        then(batch, output?)?;
        match (next, coming?) {
            (Some(next), Some(coming)) => (batch, pictures) = (next, coming),
            _ => return Ok(()),
        }
    }
}

/// The prepared pictures of a batch, `[images, 3, size, size]`; a glimpse of each is kept.
fn inputs(
    job: &Job,
    (batch, glimpses): (&[&Example], &Glimpses),
    host: &dyn Host,
) -> Result<Vec<f32>, TrainingError> {
    let of = |example: &&Example| {
        let picture = decoded(example, host, &job.ground.limits)?;
        let preprocessing = &job.backbone.preprocessing;
        let planes = square(&picture, None, preprocessing.size)
            .map_err(|error| TrainingError::Image { image: example.image, error })?;
        glimpses.keep(example, &planes)?;
        Ok(normalise(&planes, preprocessing))
    };
    let pictures = batch.par_iter().map(of).collect::<Result<Vec<_>, TrainingError>>()?;
    Ok(pictures.concat())
}

/// The prepared picture of an example, `[3, size, size]`.
pub(super) fn input(
    job: &Job,
    example: &Example,
    host: &dyn Host,
) -> Result<Vec<f32>, TrainingError> {
    prepared(example, host, &job.ground.limits, &job.backbone.preprocessing)
}
