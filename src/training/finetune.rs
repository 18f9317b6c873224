//! Few-shot fine-tuning from frozen images to a model: train, judge on the test split, pack.

use std::ops::ControlFlow;

use candle_core::{Device, Tensor};

use super::error::TrainingError;
use super::evaluate::evaluate;
use super::features::{features, probabilities};
use super::full::{self, HEAD_BIAS, HEAD_WEIGHT};
use super::host::Host;
use super::job::{Example, Job};
use super::metrics::Judged;
use super::pack::{Packed, Recipe, pack};
use super::probe::{self, Probe, Sample};
use super::reporter::{At, Reporter, Stage};
use crate::domain::evaluation::Evaluation;
use crate::domain::run::Method;
use crate::domain::{ImageId, Split};
use crate::nn::weights::load;
use crate::nn::{Mode, Tensors};
use crate::onnx::{Export, Head, export};

/// Bootstrap resamples behind every interval.
const RESAMPLES: u32 = 1000;

/// What a finished run publishes.
#[derive(Debug)]
pub struct Outcome {
    /// The downloadable files.
    pub files: Vec<Packed>,
    /// The evaluation on the test split.
    pub evaluation: Evaluation,
    /// The probabilities of each test image.
    pub predictions: Vec<(ImageId, Vec<f32>)>,
}

/// A trained network that is still to be judged.
struct Fitted {
    /// Backbone and head by torchvision's names.
    tensors: Tensors,
    /// The network as a file.
    onnx: Vec<u8>,
    recipe: Recipe,
    /// Class probabilities of the test examples.
    probabilities: Vec<Vec<f32>>,
}

/// Runs a job to its end. What is computed depends on the job alone: run again, or resumed after
/// any interruption, it publishes the same bytes.
pub fn run(job: &Job, host: &dyn Host) -> Result<Outcome, TrainingError> {
    let reporter = Reporter::new(host);
    let preparing = Stage { name: "preparing", from: 0.0, to: 0.0 };
    reporter.at(preparing, At::default())?;
    let training = job.shots()?;
    let test = job.of(Split::Test);
    host.log(&format!(
        "{} training, {} test images of {} classes; backbone {}",
        training.len(),
        test.len(),
        job.classes(),
        job.backbone.name
    ))?;
    let fitted = match job.spec.method {
        Method::Probe => fit_probe(job, &training, &test, host, &reporter)?,
        Method::Full => fit_full(job, &training, &test, host, &reporter)?,
    };
    let judged: Vec<Judged<'_>> = test
        .iter()
        .zip(&fitted.probabilities)
        .map(|(example, probabilities)| Judged {
            truth: example.label,
            probabilities,
            patient: &example.patient,
        })
        .collect();
    let evaluation = evaluate(&job.version.labels, &judged, RESAMPLES, job.spec.seed)?;
    let publishing = Stage { name: "publishing", from: 0.99, to: 1.0 };
    reporter.at(publishing, At::default())?;
    let files = pack(job, &fitted.recipe, &fitted.tensors, fitted.onnx, &evaluation)?;
    let predictions = test.iter().map(|example| example.image).zip(fitted.probabilities).collect();
    Ok(Outcome { files, evaluation, predictions })
}

fn fit_probe(
    job: &Job,
    training: &[&Example],
    test: &[&Example],
    host: &dyn Host,
    reporter: &Reporter<'_>,
) -> Result<Fitted, TrainingError> {
    // Both sets in one go: the stage then has one bar, and the network is loaded once.
    let all: Vec<&Example> = training.iter().chain(test).copied().collect();
    let computing = Stage { name: "computing features", from: 0.0, to: 0.9 };
    let vectors = features(job, &all, host, reporter, computing)?;
    let (of_training, of_test) = vectors.split_at(training.len());
    let probe = fit_head(job, training, of_training, host, reporter)?;

    let size = job.backbone.architecture.embedding_size();
    let mut tensors = load(&job.weights)?;
    let cpu = Device::Cpu;
    let weight = Tensor::from_slice(&probe.head.weight, (job.classes(), size), &cpu)?;
    let bias = Tensor::from_slice(&probe.head.bias, job.classes(), &cpu)?;
    let head = Head { weight: &weight, bias: &bias };
    let onnx = export_with(job, &tensors, head)?;
    let probabilities = of_test.iter().map(|vector| probe.head.probabilities(vector)).collect();
    tensors.insert(HEAD_WEIGHT.to_owned(), weight);
    tensors.insert(HEAD_BIAS.to_owned(), bias);
    let recipe = Recipe::Probe {
        training_images: training.len(),
        regularisation: probe.regularisation,
        folds: probe.folds,
        notices: probe.notices,
    };
    Ok(Fitted { tensors, onnx, recipe, probabilities })
}

fn fit_head(
    job: &Job,
    training: &[&Example],
    vectors: &[Vec<f32>],
    host: &dyn Host,
    reporter: &Reporter<'_>,
) -> Result<Probe, TrainingError> {
    let samples: Vec<Sample<'_>> = training
        .iter()
        .zip(vectors)
        .map(|(example, features)| Sample {
            features,
            label: example.label,
            patient: &example.patient,
        })
        .collect();
    let fitting = Stage { name: "fitting", from: 0.9, to: 0.97 };
    let mut trouble = None;
    let mut candidate = 0;
    let mut observe = |done: usize, total: usize, loss: Option<f64>| {
        let at = At { done: done as u64, total: total as u64, ..At::default() };
        let told = reporter.at(fitting, at).and_then(|()| {
            let Some(loss) = loss else { return Ok(()) };
            candidate += 1;
            Ok(host.metric("cv_loss", candidate, loss)?)
        });
        match told {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                trouble = Some(error);
                ControlFlow::Break(())
            }
        }
    };
    let probe = probe::fit(&samples, job.classes(), job.spec.seed, &mut observe);
    match trouble {
        Some(error) => Err(error),
        None => Ok(probe?),
    }
}

fn fit_full(
    job: &Job,
    training: &[&Example],
    test: &[&Example],
    host: &dyn Host,
    reporter: &Reporter<'_>,
) -> Result<Fitted, TrainingError> {
    let validation = job.of(Split::Validation);
    let stage = Stage { name: "training", from: 0.0, to: 0.95 };
    let trained = full::train(job, (training, &validation), host, reporter, stage)?;
    let mut backbone = trained.tensors.clone();
    let (weight, bias) = (backbone.remove(HEAD_WEIGHT), backbone.remove(HEAD_BIAS));
    let (Some(weight), Some(bias)) = (weight, bias) else {
        return Err(candle_core::Error::Msg("the trained network lost its head".to_owned()).into());
    };
    let onnx = export_with(job, &backbone, Head { weight: &weight, bias: &bias })?;
    let file = tempfile::NamedTempFile::new_in(&job.scratch)?;
    std::fs::write(file.path(), &onnx)?;
    let evaluating = Stage { name: "evaluating", from: 0.95, to: 0.99 };
    let probabilities = probabilities(job, file.path(), test, host, reporter, evaluating)?;
    let recipe = Recipe::Full {
        training_images: training.len(),
        validation_images: validation.len(),
        epoch: trained.epoch,
        epochs: trained.epochs,
        frozen_statistics: trained.mode == Mode::Frozen,
    };
    Ok(Fitted { tensors: trained.tensors, onnx, recipe, probabilities })
}

fn export_with(job: &Job, tensors: &Tensors, head: Head<'_>) -> Result<Vec<u8>, TrainingError> {
    Ok(export(&Export {
        architecture: job.backbone.architecture,
        tensors,
        size: job.backbone.preprocessing.size,
        head: Some(head),
        metadata: &super::pack::metadata(job),
    })?)
}
