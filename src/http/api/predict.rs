//! Answers for pictures: a model's classes, a backbone's embeddings.
//!
//! A place in the network's queue is taken before anything is read, so that a busy server says so
//! at once and never holds more pictures than it can answer for.

use axum::extract::{Request, State};
use serde::Serialize;

use super::{artifacts, backbones, models};
use crate::domain::model::{ClassProbability, Prediction};
use crate::domain::{BackboneId, ModelId, Preprocessing, Role, Sha256};
use crate::http::api::form::pictures::{PicturesForm, Prepared, prepare, receive};
use crate::http::app::App;
use crate::http::wire::answer::shape::{Items, Json};
use crate::http::wire::caller::Caller;
use crate::http::wire::documented::{BadPictures, Bytes, Guarded, Missing};
use crate::http::wire::extract::Id;
use crate::http::wire::problem::{Code, Problem};
use crate::inference::Output;

/// What a backbone makes of one picture.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Embedding {
    /// The file as the caller named it, when it did.
    #[schema(required)]
    pub file: Option<String>,
    /// Frame within the file, from 0.
    pub frame: u32,
    /// The embedding; as sensitive as the picture.
    pub embedding: Vec<f32>,
}

/// Asks a model for the classes of pictures.
///
/// The body is one PNG, JPEG or DICOM file, or a form with one or more parts named `file`. Each
/// frame of a multi-frame DICOM file is answered for.
#[utoipa::path(post, path = "/api/v1/models/{id}/predict", tag = "models", operation_id = "predict",
    params(("id" = ModelId, Path, description = "The model's id")),
    request_body(description = "One file, or a form of files", content(
        (Bytes = "application/octet-stream"), (PicturesForm = "multipart/form-data"))),
    responses((status = 200, description = "An answer for each picture", body = Items<Prediction>),
        Missing, BadPictures, Guarded))]
pub async fn predict(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<ModelId>,
    request: Request,
) -> Result<Json<Items<Prediction>>, Problem> {
    caller.must(Role::Viewer)?;
    let model = models::existing(&app, id).await?;
    let network = artifacts::named(&model.artifacts, "model", "model.onnx")?.sha256;
    let answers = answer(&app, network, model.preprocessing, request).await?;
    let items = answers.into_iter().map(|(picture, output)| {
        let found = output.probabilities.unwrap_or_default();
        prediction(picture, &model.labels, &found)
    });
    Ok(Items::json(items.collect::<Result<_, _>>()?))
}

/// Asks a backbone for the embeddings of pictures.
///
/// The body is one PNG, JPEG or DICOM file, or a form with one or more parts named `file`.
#[utoipa::path(post, path = "/api/v1/backbones/{id}/embed", tag = "backbones",
    operation_id = "embed",
    params(("id" = BackboneId, Path, description = "The backbone's id")),
    request_body(description = "One file, or a form of files", content(
        (Bytes = "application/octet-stream"), (PicturesForm = "multipart/form-data"))),
    responses((status = 200, description = "An embedding for each picture",
        body = Items<Embedding>), Missing, BadPictures, Guarded))]
pub async fn embed(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<BackboneId>,
    request: Request,
) -> Result<Json<Items<Embedding>>, Problem> {
    caller.must(Role::Viewer)?;
    let backbone = backbones::existing(&app, id).await?;
    let answers = answer(&app, backbone.onnx_sha256, backbone.preprocessing, request).await?;
    let embedding = |(picture, output): (Prepared, Output)| Embedding {
        file: picture.file,
        frame: picture.frame,
        embedding: output.embedding,
    };
    Ok(Items::json(answers.into_iter().map(embedding).collect()))
}

/// Pictures that go to a network at a time, and that wait for it.
const AT_A_TIME: usize = 16;

/// Runs the request's pictures through a network, as they become ready.
async fn answer(
    app: &App,
    network: Sha256,
    preprocessing: Preprocessing,
    request: Request,
) -> Result<Vec<(Prepared, Output)>, Problem> {
    let ticket = app.registry.queue(network)?;
    let files = receive(app, request).await?;
    let path = app.store.blobs.materialise(&network, &app.spool.join("networks")).await?;
    let (mut ready, preparing) = prepare(app, files, preprocessing, AT_A_TIME).await?;
    let mut answers = Vec::new();
    let mut pictures = Vec::with_capacity(AT_A_TIME);
    while ready.recv_many(&mut pictures, AT_A_TIME).await > 0 {
        let input = |picture: &mut Prepared| std::mem::take(&mut picture.input);
        let inputs = pictures.iter_mut().map(input).collect();
        let outputs = app.registry.run(&ticket, &path, inputs).await?;
        for answer in pictures.drain(..).zip(outputs) {
            answers.push(finite(answer)?);
        }
    }
    preparing.end().await?;
    Ok(answers)
}

/// What is not a number is no answer, and JSON would make `null` of it.
fn finite((picture, output): (Prepared, Output)) -> Result<(Prepared, Output), Problem> {
    let probabilities = output.probabilities.iter().flatten();
    if output.embedding.iter().chain(probabilities).all(|value| value.is_finite()) {
        return Ok((picture, output));
    }
    let detail = format!(
        "frame {} of the picture makes the network answer with what is not a number (NaN or \
         infinite): its weights, or the picture's values, are beyond what it can compute with. Try \
         another picture; when that fails too, run the training again",
        picture.frame
    );
    Err(Problem::new(Code::Damaged, detail))
}

fn prediction(picture: Prepared, labels: &[String], found: &[f32]) -> Result<Prediction, Problem> {
    if found.len() != labels.len() || labels.is_empty() {
        let (found, labels) = (found.len(), labels.len());
        return Err(Problem::internal(format!("{found} probabilities for {labels} labels")));
    }
    let mut probabilities: Vec<ClassProbability> = labels
        .iter()
        .zip(found)
        .map(|(label, probability)| ClassProbability {
            label: label.clone(),
            probability: *probability,
        })
        .collect();
    probabilities.sort_by(|one, other| other.probability.total_cmp(&one.probability));
    let label = probabilities[0].label.clone();
    Ok(Prediction { file: picture.file, frame: picture.frame, label, probabilities })
}

#[cfg(test)]
mod tests {
    use super::{Code, Prepared, finite, prediction};
    use crate::inference::Output;

    #[test]
    fn what_is_not_a_number_never_leaves() {
        let answer = |probabilities: Option<Vec<f32>>, embedding: Vec<f32>| {
            let picture = Prepared { file: None, frame: 0, input: Vec::new() };
            finite((picture, Output { embedding, probabilities }))
        };

        assert!(answer(Some(vec![0.5]), vec![1.0]).is_ok());
        for refused in [
            answer(Some(vec![f32::NAN]), vec![1.0]),
            answer(Some(vec![f32::INFINITY]), vec![1.0]),
            answer(None, vec![f32::NEG_INFINITY]),
        ] {
            assert_eq!(refused.expect_err("no numbers").code(), Code::Damaged);
        }
    }

    #[test]
    fn classes_come_most_probable_first() {
        let picture = Prepared { file: None, frame: 2, input: Vec::new() };
        let labels = ["a", "b", "c"].map(str::to_owned);

        let found = prediction(picture, &labels, &[0.2, 0.7, 0.1]).expect("a prediction");

        assert_eq!((found.label.as_str(), found.frame), ("b", 2));
        let order: Vec<&str> = found.probabilities.iter().map(|p| p.label.as_str()).collect();
        assert_eq!(order, ["b", "a", "c"]);
    }
}
