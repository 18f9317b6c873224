//! Few-shot fine-tuning from frozen images to a model: train each repeat, judge it on the test split,
//! pack the best.

use super::baseline::{Shown, as_good, pixels, random_network};
use super::job::Job;
use super::network::train::{networks, trained};
use super::pack::{onnx, pack};
use super::probes::{fitted, probes};
use super::recipe::Recipe;
use super::repeats::Repeat;
use crate::domain::evaluation::ClassificationEvaluation;
use crate::domain::run::Method;
use crate::domain::{ImageId, Split};
use crate::training::data::glimpses::Glimpses;
use crate::training::judge::bootstrap::RESAMPLES;
use crate::training::judge::evaluate::evaluate;
use crate::training::judge::judged::judged;
use crate::training::judge::metrics::{CannotJudge, Scorer};
use crate::training::run::error::TrainingError;
use crate::training::run::host::Host;
use crate::training::run::packed::Packed;
use crate::training::run::reporter::{At, Reporter, Stage};

/// The rise of a log loss over the expected one, in nats, from which on it says of the test patients
/// that they differ.
const WORSE: f64 = 0.25;

/// The results that a finished run publishes.
#[derive(Debug)]
pub struct Outcome {
    /// The downloadable files.
    pub files: Vec<Packed>,
    /// The evaluation on the test split.
    pub evaluation: ClassificationEvaluation,
    /// The probabilities of each test image.
    pub predictions: Vec<(ImageId, Vec<f32>)>,
}

/// Runs a job to its end. What is computed depends on the job alone: run again, or resumed after
/// any interruption, it publishes the same bytes. Only a limit of minutes makes it depend on time.
pub fn run(job: &Job, host: &dyn Host) -> Result<Outcome, TrainingError> {
    let reporter = Reporter::new(host);
    let preparing = Stage { name: "preparing", from: 0.0, to: 0.0 };
    reporter.at(preparing, At::default())?;
    let test = job.of(Split::Test);
    host.log(&format!(
        "{} training, {} test images of {} classes; backbone {}",
        job.shots(job.spec.seed)?.len(),
        test.len(),
        job.classes(),
        job.backbone.name
    ))?;
    let glimpses = Glimpses::new(job.backbone.preprocessing.size);
    let done = match job.spec.method {
        Method::Probe => probes(job, (&test, &glimpses), host, &reporter)?,
        Method::Last | Method::Full | Method::Lora => {
            networks(job, (&test, &glimpses), host, &reporter)?
        }
    };
    let Some(published) = done.published() else {
        return Err(candle_core::Error::Msg("the run has no repeat".to_owned()).into());
    };
    let found = judged(&test, &published.probabilities);
    let mut evaluation = evaluate(&job.ground.version.labels, &found, RESAMPLES, job.spec.seed)?;
    let scorer = |repeat: &Repeat| -> Result<Scorer, CannotJudge> {
        Scorer::new(&judged(&test, &repeat.probabilities), job.classes())
    };
    evaluation.repeats = done.summary(scorer)?;
    let learnt_from = job.shots(published.seed)?;
    let shown = Shown { training: &learnt_from, test: &test, glimpses: &glimpses };
    let mut floors = Vec::from_iter(pixels(job, shown, host)?);
    if job.spec.random_baseline {
        let from = match job.spec.method {
            Method::Probe => fitted(job),
            Method::Last | Method::Full | Method::Lora => trained(job),
        };
        match random_network(job, shown, from, (host, &reporter))? {
            Some(floor) => floors.push(floor),
            None => evaluation.notices.push(
                "No head could be fitted to what a random network makes of the training images: there is \
                 no comparison with one."
                    .to_owned(),
            ),
        }
    }
    for floor in floors {
        evaluation.notices.extend(as_good(&floor, &evaluation, job.spec.method));
        evaluation.baselines.push(floor);
    }
    evaluation.notices.extend(published.recipe.notices());
    evaluation.notices.extend(other_patients(&published.recipe, &evaluation));
    let few = job.spec.too_few_steps(job.shots(job.spec.seed)?.len() as u64, job.is_validated());
    evaluation.notices.extend(few.map(|few| format!("{few}.")));
    // What was said of the images when they were frozen holds for every number that comes of them.
    for notice in &job.ground.version.notices {
        if !evaluation.notices.contains(notice) {
            evaluation.notices.push(notice.clone());
        }
    }
    let publishing = Stage { name: "publishing", from: 0.99, to: 1.0 };
    reporter.at(publishing, At::default())?;
    let onnx = onnx(job, &done.kept)?;
    let files = pack(job, &published.recipe, &done.kept, onnx, &evaluation)?;
    let images = test.iter().map(|example| example.image);
    let predictions = images.zip(published.probabilities.iter().cloned()).collect();
    Ok(Outcome { files, evaluation, predictions })
}

/// Says so when the test images are met much worse than those that were held out in training.
fn other_patients(recipe: &Recipe, evaluation: &ClassificationEvaluation) -> Option<String> {
    // What training changed is judged by its own validation; its certainty is not the head's.
    let expected = recipe.head_as_published()?.loss?;
    let found = evaluation.log_loss?;
    (found.low > expected + WORSE).then(|| {
        format!(
            "The log loss of the test images ({:.2}) is far above that of the training patients that were \
             held out in turn ({expected:.2}): the test patients differ from those learnt from, and others \
             may too.",
            found.value
        )
    })
}
