//! The files of a pretrained backbone: weights by the released names, graph, card.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::card::{Facts, card};
use super::job::{Job, LeftOut, Pretrained, Start};
use super::made::Made;
use super::state::Position;
use crate::domain::Sha256;
use crate::domain::pretrain::Verdict;
use crate::inference::{Twins, parity};
use crate::nn::weights::to_bytes;
use crate::onnx::{Export, export};
use crate::training::run::error::TrainingError;
use crate::training::run::packed::Packed;

/// Packs the files, and decides whether the backbone is published or a candidate.
pub(super) fn publish(job: &Job, made: Made) -> Result<Pretrained, TrainingError> {
    let metadata = metadata(job);
    let weights = to_bytes(&made.tensors, &metadata)?;
    let size = job.preprocessing.size;
    let onnx = export(&Export {
        architecture: job.architecture,
        tensors: &made.tensors,
        size,
        head: None,
        metadata: &metadata,
    })?;
    let twins = Twins { architecture: job.architecture, tensors: &made.tensors, onnx: &onnx, size };
    let parity = parity(&twins, &job.ground.runtime, &job.ground.scratch, job.ground.threads)?;
    let published = match made.comparison.as_ref().map(|comparison| comparison.verdict) {
        Some(Verdict::Better | Verdict::NotWorse) => true,
        Some(Verdict::Worse) | None => false,
    };
    let notices = notices(job, &made);
    let hashes = BTreeMap::from([
        ("model.safetensors", Sha256::of(&weights)),
        ("model.onnx", Sha256::of(&onnx)),
    ]);
    let card = card(job, &Facts { made: &made, notices: &notices, parity, hashes: &hashes });
    let packed = |name, media_type, bytes| Packed { name, media_type, bytes: Bytes::from(bytes) };
    let files = vec![
        packed("model.safetensors", "application/vnd.safetensors", weights),
        packed("model.onnx", "application/vnd.onnx", onnx),
        packed("card.md", "text/markdown; charset=utf-8", card.into_bytes()),
    ];
    let Made { tensors, comparison, .. } = made;
    Ok(Pretrained { files, tensors, comparison, published, parity, notices })
}

/// Text properties of the weight and graph files.
fn metadata(job: &Job) -> BTreeMap<String, String> {
    let mut properties = BTreeMap::from([
        ("architecture".to_owned(), job.architecture.to_string()),
        ("dataset_digest".to_owned(), job.ground.version.digest.to_string()),
        ("license".to_owned(), job.license().to_owned()),
        ("objective".to_owned(), job.spec.objective.as_str().to_owned()),
        ("preprocessing".to_owned(), serde_json::json!(job.preprocessing).to_string()),
    ]);
    if let Start::Backbone { parent, .. } = &job.start {
        properties.insert("backbone_sha256".to_owned(), parent.weights_sha256.to_string());
    }
    properties
}

/// By how much the share of nodes that are matched to themselves must rise, beyond what one batch differs
/// from the next by.
const RISE: f64 = 0.05;

/// Says so where images were told from each other no better at the end than at the beginning. A network
/// that could do it from the start has nothing to rise to.
fn learnt_nothing(position: &Position) -> Option<String> {
    let of = |points: &BTreeMap<String, f64>| points.get("matching_accuracy").copied();
    let (first, last) = (of(&position.first)?, of(&position.latest)?);
    (last < (first + RISE).min(0.5)).then(|| {
        format!(
            "The share of images that were matched to themselves did not rise ({first:.2} in the first \
             batch, {last:.2} in the last): this run has learnt little or nothing. Give it more epochs, \
             or another learning rate or optimiser."
        )
    })
}

/// The notices that people should have about the backbone, most important first.
fn notices(job: &Job, made: &Made) -> Vec<String> {
    let mut notices = Vec::new();
    match &made.comparison {
        None => notices.push(
            "No labelled images judged this backbone: it stays a candidate. Fine-tune with it and \
             with its parent before it is trusted."
                .to_owned(),
        ),
        Some(comparison) => {
            let said = match comparison.verdict {
                Verdict::Better => "It passed the gate: the probe is better than before.",
                Verdict::NotWorse => {
                    "It passed the gate: the probe is not shown to be worse than before, nor \
                     better."
                }
                Verdict::Worse => {
                    "It did not pass the gate: the probe is worse than before. It stays a candidate."
                }
            };
            notices.push(said.to_owned());
        }
    }
    notices.extend(learnt_nothing(&made.position));
    let LeftOut { test, judged } = made.left_out;
    if judged > 0 {
        notices.push(format!(
            "{judged} image(s) were left out of pretraining: they are test images of the check, or of the \
             same patients."
        ));
    }
    if test > 0 {
        notices.push(format!(
            "{test} image(s) of the dataset's own test split were left out of pretraining."
        ));
    }
    if job.side() != job.preprocessing.size {
        notices.push(format!(
            "Views had {} pixels; the backbone's input has {}.",
            job.side(),
            job.preprocessing.size
        ));
    }
    notices
}

#[cfg(test)]
mod tests {
    use super::{Position, learnt_nothing};

    #[test]
    fn matching_that_does_not_rise_is_told_unless_it_was_good_from_the_start() {
        let of = |first: f64, last: f64| {
            let mut position = Position::default();
            position.first.insert("matching_accuracy".to_owned(), first);
            position.latest.insert("matching_accuracy".to_owned(), last);
            learnt_nothing(&position)
        };

        let told = of(0.08, 0.1).expect("told");
        assert!(told.contains("0.08") && told.contains("0.10"), "{told}");
        assert_eq!(of(0.08, 0.3), None);
        assert_eq!(of(0.9, 0.9), None);
        assert_eq!(learnt_nothing(&Position::default()), None);
    }
}
