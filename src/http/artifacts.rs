//! Downloads of the files of models and backbones, streamed from the blob store.

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE, ETAG};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use super::App;
use super::caller::Caller;
use super::disposition::attachment;
use super::documented::{Guarded, Missing};
use super::extract::{FileName, Id};
use super::intake::Bytes;
use super::problem::Problem;
use super::{backbones, etag, models};
use crate::domain::model::Artifact;
use crate::domain::{BackboneId, ModelId, Role, Sha256};

/// The digest of what is sent (RFC 9530).
pub const REPR_DIGEST: &str = "repr-digest";

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

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
pub(super) fn named<'a>(
    files: &'a [Artifact],
    of: &str,
    name: &str,
) -> Result<&'a Artifact, Problem> {
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

/// `sha-256=:…:`, the digest in base 64 (RFC 9530 section 3).
fn repr_digest(sha256: &Sha256) -> String {
    let mut text = String::from("sha-256=:");
    for three in sha256.as_bytes().chunks(3) {
        let bits = three.iter().fold(0, |bits, byte| bits << 8 | usize::from(*byte));
        let bits = bits << (8 * (3 - three.len()));
        for digit in 0..=three.len() {
            text.push(char::from(BASE64[bits >> (18 - 6 * digit) & 63]));
        }
        text.extend(std::iter::repeat_n('=', 3 - three.len()));
    }
    text.push(':');
    text
}

#[cfg(test)]
mod tests {
    use super::repr_digest;
    use crate::domain::Sha256;

    #[test]
    fn the_digest_of_nothing_is_the_published_one_in_base_64() {
        let text = repr_digest(&Sha256::of(b""));

        assert_eq!(text, "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:");
    }
}
