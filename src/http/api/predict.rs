//! Answers for pictures: a model's classes, a backbone's embeddings.
//!
//! A place in the network's queue is taken before anything is read, so that a busy server says so
//! at once and never holds more pictures than it can answer for.

use axum::extract::{Request, State};
use serde::Serialize;

use super::form::pictures::{PicturesForm, receive};
use super::{backbones, models};
use crate::domain::model::Prediction;
use crate::domain::{BackboneId, ModelId, Role};
use crate::http::app::App;
use crate::http::wire::answer::shape::{Items, Json};
use crate::http::wire::caller::Caller;
use crate::http::wire::documented::{BadPictures, Bytes, Guarded, Missing};
use crate::http::wire::extract::Id;
use crate::http::wire::problem::Problem;
use crate::service::predict::{Answer, Network, predictions};

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
    let queued = app.predictor.queue(Network::of_model(&model)?)?;
    let files = receive(&app, request).await?;
    let answers = app.predictor.answer(queued, files).await?;
    Ok(Items::json(predictions(&model, answers)?))
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
    let queued = app.predictor.queue(Network::of_backbone(&backbone))?;
    let files = receive(&app, request).await?;
    let answers = app.predictor.answer(queued, files).await?;
    let embedding = |answer: Answer| Embedding {
        file: answer.file,
        frame: answer.frame,
        embedding: answer.output.embedding,
    };
    Ok(Items::json(answers.into_iter().map(embedding).collect()))
}
