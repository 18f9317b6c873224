//! The files of a published model: weights, graph, configuration and card.

use std::collections::BTreeMap;

use bytes::Bytes;
use candle_core::Tensor;
use serde_json::{Value, json};

use super::card::card;
use super::job::Job;
use super::network::learner::{HEAD_BIAS, HEAD_WEIGHT};
use super::recipe::Recipe;
use crate::domain::Sha256;
use crate::domain::evaluation::ClassificationEvaluation;
use crate::nn::Tensors;
use crate::nn::weights::to_bytes;
use crate::onnx::{Export, Head, export};
use crate::training::run::error::TrainingError;
use crate::training::run::packed::Packed;

/// Packs the files.
pub(super) fn pack(
    job: &Job,
    recipe: &Recipe,
    tensors: &Tensors,
    onnx: Vec<u8>,
    evaluation: &ClassificationEvaluation,
) -> Result<Vec<Packed>, TrainingError> {
    let weights = to_bytes(tensors, &metadata(job))?;
    let hashes = BTreeMap::from([
        ("model.safetensors", Sha256::of(&weights)),
        ("model.onnx", Sha256::of(&onnx)),
    ]);
    let config = config(job, recipe, evaluation, &hashes);
    let config = serde_json::to_vec_pretty(&config).map_err(std::io::Error::other)?;
    let card = card(job, recipe, evaluation, &hashes);
    Ok(vec![
        packed("model.safetensors", "application/vnd.safetensors", weights),
        packed("model.onnx", "application/vnd.onnx", onnx),
        packed("config.json", "application/json", config),
        packed("card.md", "text/markdown; charset=utf-8", card.into_bytes()),
    ])
}

/// Text properties of the weight and graph files: what it takes to use and to trace them. Nothing
/// in it depends on when, or in which attempt, the run was done.
pub(super) fn metadata(job: &Job) -> BTreeMap<String, String> {
    let text = |value: Value| value.to_string();
    BTreeMap::from([
        ("architecture".to_owned(), job.backbone.architecture.to_string()),
        ("labels".to_owned(), text(json!(job.ground.version.labels))),
        ("preprocessing".to_owned(), text(json!(job.backbone.preprocessing))),
        ("dataset_digest".to_owned(), job.ground.version.digest.to_string()),
        ("backbone_sha256".to_owned(), job.backbone.weights_sha256.to_string()),
        ("license".to_owned(), job.backbone.license.clone()),
    ])
}

fn config(
    job: &Job,
    recipe: &Recipe,
    evaluation: &ClassificationEvaluation,
    hashes: &BTreeMap<&str, Sha256>,
) -> Value {
    let backbone = &job.backbone;
    json!({
        "name": job.ground.name,
        "labels": job.ground.version.labels,
        "preprocessing": backbone.preprocessing,
        "input": {"name": crate::onnx::INPUT,
                  "shape": ["batch", 3, backbone.preprocessing.size, backbone.preprocessing.size]},
        "outputs": [crate::onnx::EMBEDDING, crate::onnx::FEATURE_MAP, crate::onnx::PROBABILITIES],
        "run": job.ground.run,
        "spec": job.spec,
        "provenance": job.ground.provenance,
        "training": recipe.to_json(),
        "dataset": job.ground.dataset,
        "dataset_version": job.ground.version.number,
        "dataset_digest": job.ground.version.digest,
        "splits": job.ground.version.splits,
        "backbone": {
            "name": backbone.name, "architecture": backbone.architecture,
            "weights_sha256": backbone.weights_sha256, "source_url": backbone.source_url,
            "license": backbone.license,
        },
        "license": backbone.license,
        "metrics": evaluation,
        "files": hashes,
    })
}

fn packed(name: &'static str, media_type: &'static str, bytes: Vec<u8>) -> Packed {
    Packed { name, media_type, bytes: Bytes::from(bytes) }
}

/// A network with its head as a file.
pub(super) fn onnx(job: &Job, tensors: &Tensors) -> Result<Vec<u8>, TrainingError> {
    let mut backbone = tensors.clone();
    let (weight, bias) = (backbone.remove(HEAD_WEIGHT), backbone.remove(HEAD_BIAS));
    let (Some(weight), Some(bias)): (Option<Tensor>, Option<Tensor>) = (weight, bias) else {
        return Err(candle_core::Error::Msg("the trained network lost its head".to_owned()).into());
    };
    Ok(export(&Export {
        architecture: job.backbone.architecture,
        tensors: &backbone,
        size: job.backbone.preprocessing.size,
        head: Some(Head { weight: &weight, bias: &bias }),
        metadata: &metadata(job),
    })?)
}
