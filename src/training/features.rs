//! Features of images, computed once: what is cached is not computed again, by any run.

use std::path::Path;

use super::error::TrainingError;
use super::host::{CachedFeatures, Host};
use super::job::{Example, Job};
use super::reporter::{At, Reporter, Stage};
use crate::imaging::{decode_frame, prepare};

/// The feature vector of each example, in their order.
///
/// Images go through the network one at a time: the features of an image then depend on nothing
/// else, and a resumed run computes the same ones.
pub(super) fn features(
    job: &Job,
    examples: &[&Example],
    host: &dyn Host,
    reporter: &Reporter<'_>,
    stage: Stage,
) -> Result<Vec<Vec<f32>>, TrainingError> {
    let blobs: Vec<_> = examples.iter().map(|example| example.blob).collect();
    let mut known: CachedFeatures = host.cached_features(&blobs)?;
    let total = examples.len() as u64;
    let mut network = None;
    let mut found = Vec::with_capacity(examples.len());
    for (done, example) in examples.iter().enumerate() {
        let key = (example.blob, example.frame);
        let vector = match known.remove(&key) {
            Some(vector) => vector,
            None => {
                let network = match &mut network {
                    Some(network) => network,
                    None => network.insert(job.runtime.open(&job.onnx, job.threads)?),
                };
                let vector = network.run(&input(job, example, host)?, 1)?.embedding;
                host.cache_features(&example.blob, example.frame, &vector)?;
                vector
            }
        };
        found.push(vector);
        let at = At { done: done as u64 + 1, total, images: 1, ..At::default() };
        reporter.at(stage, at)?;
    }
    Ok(found)
}

/// Class probabilities of each example through a finished network file, in their order.
pub(super) fn probabilities(
    job: &Job,
    file: &Path,
    examples: &[&Example],
    host: &dyn Host,
    reporter: &Reporter<'_>,
    stage: Stage,
) -> Result<Vec<Vec<f32>>, TrainingError> {
    let mut network = job.runtime.open(file, job.threads)?;
    let total = examples.len() as u64;
    let mut found = Vec::with_capacity(examples.len());
    for (done, example) in examples.iter().enumerate() {
        let output = network.run(&input(job, example, host)?, 1)?;
        found.push(output.probabilities.unwrap_or_default());
        let at = At { done: done as u64 + 1, total, images: 1, ..At::default() };
        reporter.at(stage, at)?;
    }
    Ok(found)
}

/// The prepared picture of an example, `[3, size, size]`.
pub(super) fn input(
    job: &Job,
    example: &Example,
    host: &dyn Host,
) -> Result<Vec<f32>, TrainingError> {
    let unreadable = |error| TrainingError::Image { image: example.image, error };
    let bytes = host.original(&example.blob)?;
    let picture = decode_frame(&bytes, example.frame, &job.limits).map_err(unreadable)?;
    prepare(&picture, None, &job.backbone.preprocessing).map_err(unreadable)
}
