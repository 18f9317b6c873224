//! Downloads of the files of models and backbones, streamed from the blob store.

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE, ETAG};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use super::{backbones, models};
use crate::domain::model::Artifact;
use crate::domain::{BackboneId, ModelId, Role};
use crate::http::app::App;
use crate::http::wire::answer::digest::{REPR_DIGEST, repr_digest};
use crate::http::wire::answer::disposition::attachment;
use crate::http::wire::answer::etag;
use crate::http::wire::caller::Caller;
use crate::http::wire::documented::{Bytes, Guarded, Missing};
use crate::http::wire::extract::{FileName, Id};
use crate::http::wire::problem::Problem;

/// Downloads a file of a model.
#[utoipa::path(get, path = "/api/v1/models/{id}/artifacts/{name}", tag = "models",
    operation_id = "download_artifact",
    params(("id" = ModelId, Path, description = "The model's id"),
        ("name" = String, Path, description = "The file's name", example = "model.onnx"),
        ("If-None-Match" = Option<String>, Header, description = "Tags of what the caller has")),
    responses((status = 200, description = "The file", body = Bytes,
        content_type = "application/octet-stream", headers(
            ("ETag" = String, description = "SHA-256 of the file"),
            ("Repr-Digest" = String, description = "SHA-256 of the file, as of RFC 9530"),
            ("Content-Disposition" = String, description = "Asks browsers to save it"))),
        (status = 304, description = "The caller has it already"), Missing, Guarded))]
pub async fn download(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<ModelId>,
    FileName(name): FileName,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    caller.must(Role::Viewer)?;
    let model = models::existing(&app, id).await?;
    send(&app, named(&model.artifacts, "model", &name)?, &headers).await
}

/// Downloads a file of a backbone that was pretrained here.
#[utoipa::path(get, path = "/api/v1/backbones/{id}/artifacts/{name}", tag = "backbones",
    operation_id = "download_backbone_artifact",
    params(("id" = BackboneId, Path, description = "The backbone's id"),
        ("name" = String, Path, description = "The file's name", example = "model.safetensors"),
        ("If-None-Match" = Option<String>, Header, description = "Tags of what the caller has")),
    responses((status = 200, description = "The file", body = Bytes,
        content_type = "application/octet-stream", headers(
            ("ETag" = String, description = "SHA-256 of the file"),
            ("Repr-Digest" = String, description = "SHA-256 of the file, as of RFC 9530"),
            ("Content-Disposition" = String, description = "Asks browsers to save it"))),
        (status = 304, description = "The caller has it already"), Missing, Guarded))]
pub async fn of_backbone(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<BackboneId>,
    FileName(name): FileName,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    caller.must(Role::Viewer)?;
    let backbone = backbones::existing(&app, id).await?;
    send(&app, named(&backbone.origin.artifacts, "backbone", &name)?, &headers).await
}

/// The file that has this name.
fn named<'a>(files: &'a [Artifact], of: &str, name: &str) -> Result<&'a Artifact, Problem> {
    let found = files.iter().find(|artifact| artifact.name == name);
    found.ok_or_else(|| Problem::missing(&format!("file of this {of} named"), name))
}

async fn send(app: &App, artifact: &Artifact, headers: &HeaderMap) -> Result<Response, Problem> {
    let tag = format!("\"{}\"", artifact.sha256);
    if etag::has(headers, &tag) {
        return Ok((StatusCode::NOT_MODIFIED, [(ETAG, tag)]).into_response());
    }
    let content = app.store.blobs.stream(&artifact.sha256).await?;
    let mut response = Body::from_stream(content).into_response();
    describe(response.headers_mut(), artifact, &tag);
    Ok(response)
}

fn describe(headers: &mut HeaderMap, artifact: &Artifact, tag: &str) {
    let text = |text: &str| HeaderValue::from_str(text).ok();
    let kind = text(&artifact.media_type);
    let kind = kind.unwrap_or(HeaderValue::from_static("application/octet-stream"));
    headers.insert(CONTENT_TYPE, kind);
    headers.insert(CONTENT_LENGTH, artifact.size_bytes.into());
    headers.insert(CONTENT_DISPOSITION, attachment(&artifact.name));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    text(tag).map(|tag| headers.insert(ETAG, tag));
    text(&repr_digest(&artifact.sha256)).map(|digest| headers.insert(REPR_DIGEST, digest));
}
