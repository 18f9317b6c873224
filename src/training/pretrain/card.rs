//! The card of a pretrained backbone: where it comes from, what it was shown, and what came of it.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::job::{Job, Start};
use super::made::Made;
use crate::domain::Sha256;
use crate::domain::backbone::Parity;
use crate::domain::evaluation::Estimate;
use crate::domain::pretrain::{AtShots, Comparison, Objective, Verdict};
use crate::training::cycle::Ended;
use crate::training::run::plain::plain;

/// The facts that the card tells beside what was asked.
pub(super) struct Facts<'a> {
    pub(super) made: &'a Made,
    pub(super) notices: &'a [String],
    pub(super) parity: Parity,
    pub(super) hashes: &'a BTreeMap<&'static str, Sha256>,
}

/// Writes the card as Markdown, with the front matter that model hubs read.
pub(super) fn card(job: &Job, facts: &Facts<'_>) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = front(&mut text, job, facts)
        .and_then(|()| training(&mut text, job, facts.made))
        .and_then(|()| measured(&mut text, job, facts.made))
        .and_then(|()| origin(&mut text, job, facts));
    text
}

fn front(text: &mut String, job: &Job, facts: &Facts<'_>) -> std::fmt::Result {
    let first_line = job.license().lines().next().unwrap_or_default();
    writeln!(text, "---\nlicense: other\nlicense_name: {}", serde_json::json!(first_line))?;
    writeln!(text, "pipeline_tag: image-feature-extraction\nlibrary_name: lvmed")?;
    writeln!(text, "tags: [medical]\n---\n\n# {}\n", plain(job.ground.name.as_str()))?;
    match &job.start {
        Start::Backbone { parent, .. } => writeln!(
            text,
            "A backbone ({}), made from *{}* by pretraining on images without their labels.\n",
            job.architecture,
            plain(parent.name.as_str())
        )?,
        Start::Random => writeln!(
            text,
            "A backbone ({}), trained from random weights on images without their labels.\n",
            job.architecture
        )?,
    }
    facts.notices.iter().try_for_each(|notice| writeln!(text, "{notice}\n"))?;
    let preprocessing = &job.preprocessing;
    writeln!(
        text,
        "Input: `{}` of shape [batch, 3, {size}, {size}], channels {:?}, intensities in [0, 1] \
         normalised by mean {:?} and std {:?}. Outputs: `{}` and `{}`. It is not a medical device \
         and tells no classes apart: it is a start for fine-tuning.\n",
        crate::onnx::INPUT,
        preprocessing.channel_order,
        preprocessing.mean,
        preprocessing.std,
        crate::onnx::EMBEDDING,
        crate::onnx::FEATURE_MAP,
        size = preprocessing.size,
    )
}

fn training(text: &mut String, job: &Job, made: &Made) -> std::fmt::Result {
    let method = match &job.spec.objective {
        Objective::Matching(_) => {
            "second-order graph matching between two views of a batch (LVM-Med, Nguyen et al. 2023)"
        }
        Objective::Simclr(_) => "SimCLR (Chen et al. 2020)",
        Objective::BarlowTwins(_) => "Barlow Twins (Zbontar et al. 2021)",
        Objective::Vicregl(_) => "VICRegL (Bardes et al. 2022)",
        Objective::MocoV2(_) => "MoCo v2 (Chen et al. 2020)",
        Objective::Dino(_) => "DINO (Caron et al. 2021)",
    };
    let ended = match made.position.ended {
        Some(Ended::TimeBudget) => "the minutes allowed were used up",
        Some(Ended::AllEpochs | Ended::Patience) | None => "all epochs were run",
    };
    writeln!(text, "## Training\n\nMethod: {method}.")?;
    writeln!(
        text,
        "Shown were {} images of the dataset *{}*, version {}, for {} steps in {} whole epochs \
         of {}; {ended}.",
        made.images,
        plain(job.ground.dataset.as_str()),
        job.ground.version.number,
        made.position.step,
        made.position.epoch,
        job.spec.learning.epochs
    )?;
    writeln!(
        text,
        "{} image(s) of its test split were never shown, nor {} of patients that the check tests.\n",
        made.left_out.test, made.left_out.judged
    )?;
    writeln!(text, "| curve | last value |\n| --- | --- |")?;
    // A pace is that of a machine and of a moment; the card is the same on any.
    let curves = made.position.latest.iter().filter(|(name, _)| *name != "images_per_second");
    for (name, value) in curves {
        writeln!(text, "| {name} | {value:.6} |")?;
    }
    let recipe = serde_json::to_string(&job.spec).unwrap_or_default();
    writeln!(text, "\nThe whole recipe: `{recipe}`.\n")
}

fn measured(text: &mut String, job: &Job, made: &Made) -> std::fmt::Result {
    writeln!(text, "## Gate\n")?;
    let (Some(found), Some(judge)) = (&made.comparison, &job.gate) else {
        return writeln!(text, "None: no labelled images were named to judge it by.\n");
    };
    let Comparison { repeats, images, patients, resamples, tolerance, .. } = found;
    let shots = match &found.each[..] {
        [] => of_shots(found.shots, *repeats),
        each => each
            .iter()
            .map(|found| of_shots(found.shots, *repeats))
            .collect::<Vec<_>>()
            .join(", then on "),
    };
    writeln!(
        text,
        "A linear probe on the frozen backbone, trained {repeats} times on {shots} of the dataset \
         *{}*, version {}, judged on {images} test images of {patients} patients that neither the \
         probe nor pretraining saw. Macro AUROC, the mean of all, with 95 % intervals over \
         {resamples} resamples of test patients and repeats, the same before and after:\n",
        plain(judge.dataset.as_str()),
        judge.version.number,
    )?;
    writeln!(text, "| backbone | AUROC | 95 % interval |\n| --- | --- | --- |")?;
    let rows = [("before", found.before), ("after", found.after), ("difference", found.difference)];
    for (name, Estimate { value, low, high }) in rows {
        writeln!(text, "| {name} | {value:.3} | {low:.3} to {high:.3} |")?;
    }
    for AtShots { shots, difference: Estimate { value, low, high }, .. } in &found.each {
        let learnt = of_shots(*shots, *repeats);
        writeln!(text, "| difference with {learnt} | {value:.3} | {low:.3} to {high:.3} |")?;
    }
    let verdict = match found.verdict {
        Verdict::Better => "better: the whole interval of the difference is above 0".to_owned(),
        Verdict::NotWorse => "not worse; that it is better is not shown".to_owned(),
        Verdict::Worse => format!(
            "worse: an interval of the difference is below 0, or it fell by more than {tolerance}"
        ),
    };
    writeln!(text, "\nVerdict: {verdict}.\n")?;
    found.notices.iter().try_for_each(|notice| writeln!(text, "{}\n", plain(notice)))
}

/// The images that a probe learns from.
fn of_shots(shots: Option<u32>, repeats: u32) -> String {
    match shots {
        Some(shots) => format!("{shots} image(s) of each class"),
        None if repeats > 1 => {
            "all training images but those of a fifth of the patients".to_owned()
        }
        None => "all training images".to_owned(),
    }
}

fn origin(text: &mut String, job: &Job, facts: &Facts<'_>) -> std::fmt::Result {
    writeln!(text, "## Origin\n")?;
    let (seed, version) = (job.spec.seed, &job.ground.provenance.code_version);
    writeln!(text, "- run `{}`, seed {seed}, lvmed {version}", job.ground.run)?;
    writeln!(text, "- dataset digest `{}`", job.ground.version.digest)?;
    if let Some(judge) = &job.gate {
        writeln!(text, "- gate's dataset digest `{}`", judge.version.digest)?;
    }
    if let Start::Backbone { parent, .. } = &job.start {
        writeln!(text, "- parent `{}`, {}", parent.id, plain(parent.name.as_str()))?;
        writeln!(text, "- parent weights SHA-256 `{}`", parent.weights_sha256)?;
        writeln!(text, "- parent source: {}", plain(&parent.source_url))?;
    }
    for (name, hash) in facts.hashes {
        writeln!(text, "- `{name}` SHA-256 `{hash}`")?;
    }
    let Parity { max_relative_difference, bound } = facts.parity;
    writeln!(
        text,
        "- candle and ONNX Runtime differ by {max_relative_difference:.1e} (bound {bound:.0e})"
    )?;
    writeln!(text, "\n## Licence\n")?;
    match &job.start {
        Start::Backbone { .. } => {
            writeln!(text, "The backbone inherits the licence of its parent:\n")?;
        }
        Start::Random => writeln!(text, "There is no parent whose licence it could inherit:\n")?,
    }
    job.license().lines().try_for_each(|line| writeln!(text, "> {}", plain(line)))
}
