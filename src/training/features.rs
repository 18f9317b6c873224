//! What a frozen network says of images, computed once: what is cached is not computed again, by any
//! run.

use std::path::Path;

use rayon::prelude::*;

use super::error::TrainingError;
use super::glimpses::Glimpses;
use super::host::{CachedFeatures, Host};
use super::job::{Example, Job};
use super::reporter::{At, Reporter, Stage};
use crate::config::Limits;
use crate::domain::Preprocessing;
use crate::imaging::{Picture, decode_frame, normalise, prepare, square};
use crate::inference::{Network, Output};

/// Pixels that go through a network at a time: eight pictures of 224 pixels. Larger batches gain
/// nothing more and take memory.
const BATCH_PIXELS: usize = 8 * 224 * 224;
/// Images that go through a network at a time, at most.
const BATCH_IMAGES: usize = 16;

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
    let key = |example: &Example| (example.blob, example.frame);
    let missing: Vec<&Example> =
        examples.iter().copied().filter(|example| !known.contains_key(&key(example))).collect();
    let total = examples.len() as u64;
    let mut done = total - missing.len() as u64;
    if done > 0 {
        host.log(&format!("the features of {done} of {total} images are known already"))?;
    }
    reporter.at(stage, At { done, total, ..At::default() })?;
    if !missing.is_empty() {
        let mut network = job.runtime.open(&job.onnx, job.threads)?;
        each_batch(job, &mut network, (&missing, glimpses), host, |batch, output| {
            let length = output.embedding.len() / batch.len();
            let vectors = output.embedding.chunks_exact(length).map(<[f32]>::to_vec);
            let found: Vec<_> = batch.iter().map(|example| key(example)).zip(vectors).collect();
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
        .map(|example| known.get(&key(example)).cloned().unwrap_or_default())
        .collect())
}

/// What a finished network file makes of each example, in their order; nothing is cached.
pub(super) fn of_network(
    job: &Job,
    file: &Path,
    (examples, glimpses): (&[&Example], &Glimpses),
    host: &dyn Host,
    reporter: &Reporter<'_>,
    stage: Stage,
) -> Result<Vec<OfImage>, TrainingError> {
    let mut network = job.runtime.open(file, job.threads)?;
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

/// What a network makes of one image.
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

/// Pictures of this side that go through a network at a time.
pub(super) fn images_at_a_time(side: usize) -> usize {
    (BATCH_PIXELS / (side * side).max(1)).clamp(1, BATCH_IMAGES)
}

/// The prepared pictures of a batch, `[images, 3, size, size]`; a glimpse of each is kept.
fn inputs(
    job: &Job,
    (batch, glimpses): (&[&Example], &Glimpses),
    host: &dyn Host,
) -> Result<Vec<f32>, TrainingError> {
    let of = |example: &&Example| {
        let picture = decoded(example, host, &job.limits)?;
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
    prepared(example, host, &job.limits, &job.backbone.preprocessing)
}

/// The picture of an example as `preprocessing` has it, `[3, size, size]`.
pub(super) fn prepared(
    example: &Example,
    host: &dyn Host,
    limits: &Limits,
    preprocessing: &Preprocessing,
) -> Result<Vec<f32>, TrainingError> {
    prepare(&decoded(example, host, limits)?, None, preprocessing)
        .map_err(|error| TrainingError::Image { image: example.image, error })
}

/// The picture of an example.
pub(super) fn decoded(
    example: &Example,
    host: &dyn Host,
    limits: &Limits,
) -> Result<Picture, TrainingError> {
    let bytes = host.original(&example.blob)?;
    decode_frame(&bytes, example.frame, limits)
        .map_err(|error| TrainingError::Image { image: example.image, error })
}

#[cfg(test)]
mod tests {
    use super::images_at_a_time;

    #[test]
    fn batches_are_as_large_as_memory_allows() {
        assert_eq!(images_at_a_time(32), 16);
        assert_eq!(images_at_a_time(224), 8);
        assert_eq!(images_at_a_time(512), 1);
        assert_eq!(images_at_a_time(1024), 1);
    }
}
