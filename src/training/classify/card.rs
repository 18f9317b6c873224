//! The model card: what the model is, what it learnt from, how well it does, and what it is not.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::job::Job;
use super::recipe::{Network, Recipe};
use crate::domain::evaluation::{ClassificationEvaluation, Estimate, Repeats, Spread};
use crate::domain::run::Method;
use crate::domain::{Sha256, Split};
use crate::training::probe::head::{Classifier, HeadFacts};
use crate::training::run::plain::plain;

/// The splits that a probe which chooses by cross-validation has its images from.
const TRAINING_AND_VALIDATION: &str = " of the training and validation splits";

/// Writes the card as Markdown, with the front matter that model hubs read.
pub(super) fn card(
    job: &Job,
    recipe: &Recipe,
    evaluation: &ClassificationEvaluation,
    hashes: &BTreeMap<&str, Sha256>,
) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = front(&mut text, job)
        .and_then(|()| training(&mut text, job, recipe))
        .and_then(|()| measured(&mut text, evaluation))
        .and_then(|()| origin(&mut text, job, hashes));
    text
}

fn front(text: &mut String, job: &Job) -> std::fmt::Result {
    let license = job.backbone.license.lines().next().unwrap_or_default();
    writeln!(text, "---")?;
    writeln!(text, "license: other")?;
    writeln!(text, "license_name: {}", serde_json::json!(license))?;
    writeln!(text, "pipeline_tag: image-classification")?;
    writeln!(text, "library_name: lvmed")?;
    writeln!(text, "tags: [medical]")?;
    writeln!(text, "---")?;
    writeln!(text, "\n# {}\n", plain(job.ground.name.as_str()))?;
    writeln!(
        text,
        "Tells {} classes of images apart: {}. Fine-tuned from the backbone *{}* ({}).\n",
        job.classes(),
        job.ground.version.labels.iter().map(|label| plain(label)).collect::<Vec<_>>().join(", "),
        plain(job.backbone.name.as_str()),
        job.backbone.architecture,
    )?;
    writeln!(text, "## Use\n")?;
    writeln!(
        text,
        "For research on images like those it learnt from. It is not a medical device: it was not \
         validated for diagnosis, and nobody should be treated, or not treated, because of it. \
         Expect it to fail on other scanners, other populations, and images of none of its \
         classes, to which it still gives an answer.\n"
    )?;
    let preprocessing = &job.backbone.preprocessing;
    writeln!(
        text,
        "Input: `{}` of shape [batch, 3, {size}, {size}], channels {:?}, intensities in [0, 1] \
         normalised by mean {:?} and std {:?}; pictures are stretched to the square by antialiased \
         bilinear filtering. Output: `{}`, in the order of the labels.\n",
        crate::onnx::INPUT,
        preprocessing.channel_order,
        preprocessing.mean,
        preprocessing.std,
        crate::onnx::PROBABILITIES,
        size = preprocessing.size,
    )
}

fn training(text: &mut String, job: &Job, recipe: &Recipe) -> std::fmt::Result {
    writeln!(text, "## Training\n")?;
    let shots = match job.spec.shots {
        Some(shots) => format!("{shots} images of each class"),
        None => "all training images".to_owned(),
    };
    let dataset = plain(job.ground.dataset.as_str());
    writeln!(text, "Dataset *{dataset}*, version {}, {shots}.", job.ground.version.number)?;
    match recipe {
        Recipe::Probe { training_images, head } => {
            let from = if job.spec.learns_from_validation() { TRAINING_AND_VALIDATION } else { "" };
            writeln!(
                text,
                "A linear head on the frozen features of {training_images} images{from}."
            )?;
            fitted(text, head)?;
        }
        Recipe::Network(network) => by_gradients(text, job, network)?,
    }
    writeln!(text, "\n| split | images | patients |\n| --- | --- | --- |")?;
    for split in Split::ALL {
        let counts = job.ground.version.splits.get(&split).cloned().unwrap_or_default();
        writeln!(text, "| {split} | {} | {} |", counts.images, counts.patients)?;
    }
    writeln!(text)
}

/// The sentences on how a head was fitted, part by part.
fn fitted(text: &mut String, head: &HeadFacts) -> std::fmt::Result {
    let is_mean = head.parts.len() > 1;
    if is_mean {
        let parts = head.parts.len();
        writeln!(
            text,
            "It is the mean of {parts} classifiers (in logits; the regression counts twice), divided by a \
             temperature of {:.3}:",
            head.temperature
        )?;
    }
    for part in &head.parts {
        let (what, setting) = match part.classifier {
            Classifier::Logistic => ("a multinomial logistic regression", "penalty"),
            Classifier::Lda => ("a linear discriminant analysis", "shrinkage of the covariance"),
        };
        let scale = if part.standardised { "standardised features" } else { "centred features" };
        writeln!(
            text,
            "{}{what} of {scale} ({setting} {:.3e}, temperature {:.3}){}",
            if is_mean { "- " } else { "It is " },
            part.regularisation,
            part.temperature,
            if is_mean { "" } else { "." },
        )?;
    }
    if head.folds > 0 {
        writeln!(
            text,
            "\nPenalty and temperatures were chosen by {}-fold cross-validation that never parts a \
             patient.",
            head.folds
        )?;
    }
    Ok(())
}

fn by_gradients(text: &mut String, job: &Job, network: &Network) -> std::fmt::Result {
    let settings = &job.spec.training;
    let what = match network.method {
        Method::Last => format!("The head and the last {} stages or blocks", settings.stages),
        Method::Lora => format!("The head and matrices of rank {} in the attention", settings.rank),
        Method::Full | Method::Probe => "All layers".to_owned(),
    };
    writeln!(
        text,
        "{what} ({} numbers) on {} images{}, {} images at a time; \
         epoch {} of {} was kept, judged by {} validation images, and {}.",
        network.trained_parameters,
        network.training_images,
        network.with_statistics(),
        network.micro_batch,
        network.epoch,
        network.epochs,
        network.validation_images,
        network.why_ended(),
    )?;
    if let Some(head) = &network.head {
        writeln!(text, "\nTraining started from a head that was fitted to the frozen features.")?;
        fitted(text, head)?;
    }
    let recipe = serde_json::to_string(settings).unwrap_or_default();
    writeln!(text, "\nThe whole recipe: `{recipe}`.")
}

fn repeated(text: &mut String, repeats: &Repeats) -> std::fmt::Result {
    writeln!(
        text,
        "\n### Repeats\n\nThe whole was done {} times with the seeds {:?}, judged on the same test \
         images; repeat {} is published. Means with 95 % t-intervals over the repeats:\n",
        repeats.seeds.len(),
        repeats.seeds,
        repeats.published + 1,
    )?;
    writeln!(text, "| metric | mean | 95 % interval |\n| --- | --- | --- |")?;
    let rows = [
        ("accuracy", Some(&repeats.accuracy)),
        ("balanced accuracy", Some(&repeats.balanced_accuracy)),
        ("macro AUROC (one against the rest)", repeats.macro_auroc.as_ref()),
    ];
    for (name, spread) in rows {
        let Some(Spread { mean, low, high, .. }) = spread else { continue };
        writeln!(text, "| {name} | {mean:.3} | {low:.3} to {high:.3} |")?;
    }
    Ok(())
}

fn measured(text: &mut String, evaluation: &ClassificationEvaluation) -> std::fmt::Result {
    writeln!(text, "## Evaluation\n")?;
    writeln!(
        text,
        "On {} test images of {} patients, as far as the dataset tells patients apart; none of \
         them did it learn from. Intervals are 95 % intervals (bias-corrected and accelerated) over {} \
         bootstrap resamples of patients within their classes.\n",
        evaluation.images, evaluation.patients, evaluation.resamples
    )?;
    writeln!(text, "| metric | value | 95 % interval |\n| --- | --- | --- |")?;
    let rows = [
        ("accuracy", Some(evaluation.accuracy)),
        ("balanced accuracy", Some(evaluation.balanced_accuracy)),
        ("macro AUROC (one against the rest)", evaluation.macro_auroc),
        ("macro average precision", evaluation.macro_auprc),
        ("macro F1", Some(evaluation.macro_f1)),
        ("Brier score (0 best, 2 worst)", Some(evaluation.brier)),
        ("log loss (nats)", evaluation.log_loss),
    ];
    for (name, estimate) in rows {
        let Some(Estimate { value, low, high }) = estimate else { continue };
        writeln!(text, "| {name} | {value:.3} | {low:.3} to {high:.3} |")?;
    }
    let ece = evaluation.ece;
    write!(text, "\nExpected calibration error {:.3}", ece.value)?;
    if let (Some(mean), Some(high)) = (ece.by_chance, ece.by_chance_95) {
        write!(
            text,
            "; on as many images perfectly calibrated probabilities would show {mean:.3}, and more than \
             {high:.3} once in twenty times"
        )?;
    }
    writeln!(text, ".")?;
    let labels: Vec<String> = evaluation.labels.iter().map(|label| plain(label)).collect();
    writeln!(text, "\n| true \\ predicted | {} |", labels.join(" | "))?;
    writeln!(text, "| --- |{}", " --- |".repeat(labels.len()))?;
    for (label, row) in labels.iter().zip(&evaluation.confusion) {
        let counts: Vec<String> = row.iter().map(ToString::to_string).collect();
        writeln!(text, "| {label} | {} |", counts.join(" | "))?;
    }
    for baseline in &evaluation.baselines {
        write!(text, "\nFor comparison, {}: balanced accuracy ", baseline.clause())?;
        write!(text, "{:.3}", baseline.balanced_accuracy.value)?;
        if let Some(Estimate { value, low, high }) = baseline.macro_auroc {
            write!(text, ", macro AUROC {value:.3} ({low:.3} to {high:.3})")?;
        }
        writeln!(text, ".")?;
    }
    if let Some(repeats) = &evaluation.repeats {
        repeated(text, repeats)?;
    }
    evaluation.notices.iter().try_for_each(|notice| writeln!(text, "\n{}", plain(notice)))?;
    writeln!(text)
}

fn origin(text: &mut String, job: &Job, hashes: &BTreeMap<&str, Sha256>) -> std::fmt::Result {
    let backbone = &job.backbone;
    writeln!(text, "## Origin\n")?;
    writeln!(
        text,
        "- run `{}`, seed {}, lvmed {}",
        job.ground.run, job.spec.seed, job.ground.provenance.code_version
    )?;
    writeln!(text, "- dataset digest `{}`", job.ground.version.digest)?;
    writeln!(text, "- backbone weights SHA-256 `{}`", backbone.weights_sha256)?;
    writeln!(text, "- backbone source: {}", plain(&backbone.source_url))?;
    hashes.iter().try_for_each(|(name, hash)| writeln!(text, "- `{name}` SHA-256 `{hash}`"))?;
    writeln!(text, "\n## Licence\n")?;
    writeln!(text, "The model inherits the licence of its backbone:\n")?;
    backbone.license.lines().try_for_each(|line| writeln!(text, "> {}", plain(line)))
}
