//! The results without the backbone: by a discriminant of small grey pictures, and by the same
//! architecture with random weights.
//!
//! A number means little without its floor. On sets whose classes differ in brightness or framing alone,
//! pixels may do as well as a network, and then the network adds nothing; and a random network sees more
//! than one would think.

use std::ops::ControlFlow;

use rayon::prelude::*;

use super::features::of_network;
use super::job::Job;
use crate::domain::HeadRule;
use crate::domain::evaluation::{Baseline, ClassificationEvaluation};
use crate::domain::run::Method;
use crate::nn::weights::random;
use crate::onnx::{Export, export};
use crate::training::data::example::Example;
use crate::training::data::glimpses::{Glimpses, SIDE};
use crate::training::judge::bootstrap::RESAMPLES;
use crate::training::judge::evaluate::evaluate;
use crate::training::judge::judged::judged;
use crate::training::probe::fit::fit;
use crate::training::probe::head::Sample;
use crate::training::run::error::TrainingError;
use crate::training::run::host::Host;
use crate::training::run::reporter::{Reporter, Stage};

/// The images that the model learnt from and those that it is judged by.
#[derive(Clone, Copy)]
pub(super) struct Shown<'a> {
    pub(super) training: &'a [&'a Example],
    pub(super) test: &'a [&'a Example],
    pub(super) glimpses: &'a Glimpses,
}

/// Fits a discriminant to the pixels of the training images and judges it like the model; none where
/// that cannot be fitted.
pub(super) fn pixels(
    job: &Job,
    shown: Shown<'_>,
    host: &dyn Host,
) -> Result<Option<Baseline>, TrainingError> {
    let grey = |example: &&Example| match host.stop() {
        Some(stop) => Err(TrainingError::Stopped(stop)),
        None => shown.glimpses.of(example, host, &job.ground.limits),
    };
    let of = |examples: &[&Example]| -> Result<Vec<Vec<f32>>, TrainingError> {
        examples.par_iter().map(grey).collect()
    };
    let seen = Seen { training: of(shown.training)?, test: of(shown.test)? };
    let about = format!("a linear discriminant of {SIDE} x {SIDE} grey pixels");
    judge(job, shown, &seen, (HeadRule::Lda, "pixels", about), host)
}

/// Fits a head to what the architecture with random weights makes of the training images and judges it
/// like the model; none where that cannot be fitted.
pub(super) fn random_network(
    job: &Job,
    shown: Shown<'_>,
    from: f64,
    (host, reporter): (&dyn Host, &Reporter<'_>),
) -> Result<Option<Baseline>, TrainingError> {
    let architecture = job.backbone.architecture;
    let tensors = random(architecture, job.spec.seed)?;
    let file = tempfile::NamedTempFile::new_in(&job.ground.scratch)?;
    let network = export(&Export {
        architecture,
        tensors: &tensors,
        size: job.backbone.preprocessing.size,
        head: None,
        metadata: &super::pack::metadata(job),
    })?;
    drop(tensors);
    std::fs::write(file.path(), network)?;
    let stage = Stage { name: "judging a random network", from, to: 0.99 };
    let all: Vec<&Example> = shown.training.iter().chain(shown.test).copied().collect();
    let outputs = of_network(job, file.path(), (&all, shown.glimpses), host, reporter, stage)?;
    let mut training: Vec<Vec<f32>> = outputs.into_iter().map(|output| output.embedding).collect();
    let test = training.split_off(shown.training.len());
    let about =
        "the same architecture, frozen with random weights, and a head by the same rule".to_owned();
    let rule = job.spec.head.unwrap_or_default();
    judge(job, shown, &Seen { training, test }, (rule, "random", about), host)
}

/// Features of the images.
struct Seen {
    training: Vec<Vec<f32>>,
    test: Vec<Vec<f32>>,
}

fn judge(
    job: &Job,
    shown: Shown<'_>,
    seen: &Seen,
    (rule, name, about): (HeadRule, &str, String),
    host: &dyn Host,
) -> Result<Option<Baseline>, TrainingError> {
    let samples: Vec<Sample<'_>> = shown
        .training
        .iter()
        .zip(&seen.training)
        .map(|(example, features)| Sample {
            features,
            label: example.class(),
            patient: &example.patient,
        })
        .collect();
    let mut stopped = None;
    let mut observe = |_: usize, _: usize, _: Option<f64>| {
        stopped = host.stop();
        if stopped.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let fitted = fit(&samples, job.classes(), job.spec.seed, Some(rule), &mut observe);
    let probe = match (fitted, stopped) {
        (_, Some(stop)) => return Err(TrainingError::Stopped(stop)),
        (Ok(probe), None) => probe,
        (Err(_), None) => return Ok(None),
    };
    let answers: Vec<Vec<f32>> =
        seen.test.iter().map(|features| probe.head.probabilities(features)).collect();
    let judged = judged(shown.test, &answers);
    let found = evaluate(&job.ground.version.labels, &judged, RESAMPLES, job.spec.seed)?;
    Ok(Some(Baseline {
        name: name.to_owned(),
        about,
        balanced_accuracy: found.balanced_accuracy,
        macro_auroc: found.macro_auroc,
        log_loss: found.log_loss,
    }))
}

/// Says so when a baseline ranks at least as well as the model.
pub(super) fn as_good(
    baseline: &Baseline,
    model: &ClassificationEvaluation,
    method: Method,
) -> Option<String> {
    let (floor, found) = (baseline.macro_auroc?, model.macro_auroc?);
    let advice = if found.value >= 1.0 {
        "The classes differ in something simple, such as brightness or framing: see that it is the finding \
         and not how the pictures were made."
    } else if method == Method::Probe {
        "The backbone adds nothing here: try another one, or a larger input size."
    } else {
        "The backbone and its training add nothing here: try the method probe, another backbone, or a \
         larger input size."
    };
    (floor.value >= found.value).then(|| {
        format!(
            "For comparison, {} reaches an AUROC of {:.2} on the same test images; the model reaches {:.2}. \
             {advice}",
            baseline.clause(), floor.value, found.value
        )
    })
}
