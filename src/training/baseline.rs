//! What is reached without any backbone: a discriminant of small grey pictures.
//!
//! A number means little without its floor. On sets whose classes differ in brightness or framing alone,
//! pixels may do as well as a network, and then the network adds nothing.

use std::ops::ControlFlow;

use rayon::prelude::*;

use super::error::TrainingError;
use super::evaluate::evaluate;
use super::finetune::judged;
use super::glimpses::{Glimpses, SIDE};
use super::head::{ProbeError, Sample, fit};
use super::host::Host;
use super::job::{Example, Job};
use crate::domain::evaluation::{Baseline, Evaluation};
use crate::domain::HeadRule;

/// Fits a discriminant to the pixels of the training images and judges it like the model; none where
/// that cannot be fitted.
pub(super) fn pixels(
    job: &Job,
    (training, test): (&[&Example], &[&Example]),
    glimpses: &Glimpses,
    resamples: u32,
    host: &dyn Host,
) -> Result<Option<Baseline>, TrainingError> {
    let goes_on = || host.stop().map_or(Ok(()), |stop| Err(TrainingError::Stopped(stop)));
    let grey = |example: &&Example| -> Result<Vec<f32>, TrainingError> {
        goes_on()?;
        glimpses.of(example, host, &job.limits)
    };
    let seen: Vec<Vec<f32>> = training.par_iter().map(grey).collect::<Result<_, _>>()?;
    let samples: Vec<Sample<'_>> = training
        .iter()
        .zip(&seen)
        .map(|(example, features)| Sample {
            features,
            label: example.label,
            patient: &example.patient,
        })
        .collect();
    let mut observe = |_: usize, _: usize, _: Option<f64>| match host.stop() {
        Some(_) => ControlFlow::Break(()),
        None => ControlFlow::Continue(()),
    };
    let rule = Some(HeadRule::Lda);
    let probe = match fit(&samples, job.classes(), job.spec.seed, rule, &mut observe) {
        Ok(probe) => probe,
        Err(ProbeError::Cancelled) => return goes_on().map(|()| None),
        Err(_) => return Ok(None),
    };
    let answers: Vec<Vec<f32>> = test
        .par_iter()
        .map(|example| Ok(probe.head.probabilities(&grey(example)?)))
        .collect::<Result<_, TrainingError>>()?;
    let judged = judged(test, &answers);
    let found = evaluate(&job.version.labels, &judged, resamples, job.spec.seed)?;
    Ok(Some(Baseline {
        name: "pixels".to_owned(),
        about: format!("a linear discriminant of {SIDE} x {SIDE} grey pixels"),
        balanced_accuracy: found.balanced_accuracy,
        macro_auroc: found.macro_auroc,
        log_loss: found.log_loss,
    }))
}

/// Says so when a baseline ranks at least as well as the model.
pub(super) fn as_good(baseline: &Baseline, model: &Evaluation) -> Option<String> {
    let (floor, found) = (baseline.macro_auroc?, model.macro_auroc?);
    let advice = if found.value >= 1.0 {
        "The classes differ in something simple, such as brightness or framing: see that it is the finding \
         and not how the pictures were made."
    } else {
        "The backbone adds nothing here: try another one, or a larger input size."
    };
    (floor.value >= found.value).then(|| {
        format!(
            "Without any backbone, {} reaches an AUROC of {:.2} on the same test images; the model reaches \
             {:.2}. {advice}",
            baseline.about, floor.value, found.value
        )
    })
}
