//! The web page: files of `static/`, embedded in the program.

use axum::Router;
use axum::extract::Path;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use rust_embed::RustEmbed;

use crate::domain::Sha256;
use crate::http::app::App;
use crate::http::wire::answer::etag;
use crate::http::wire::problem::{Problem, unknown_route};

#[derive(RustEmbed)]
#[folder = "static/"]
struct Files;

/// The routes of the page.
pub fn routes() -> Router<App> {
    Router::new().route("/", get(index)).route("/static/{*path}", get(file))
}

async fn index(headers: HeaderMap) -> Result<Response, Problem> {
    embedded("index.html", &headers).await
}

async fn file(Path(path): Path<String>, headers: HeaderMap) -> Result<Response, Problem> {
    embedded(&path, &headers).await
}

/// An embedded file. Browsers ask each time whether they have the newest one: a new program may
/// bring new files under the old names.
async fn embedded(path: &str, headers: &HeaderMap) -> Result<Response, Problem> {
    let Some(found) = Files::get(path) else { return Err(unknown_route().await) };
    // Weak: compression may change the bytes that are sent.
    let tag = format!("W/\"{}\"", Sha256::from_bytes(found.metadata.sha256_hash()));
    let described = [(ETAG, tag.clone()), (CACHE_CONTROL, "no-cache".to_owned())];
    if etag::has(headers, &tag) {
        return Ok((StatusCode::NOT_MODIFIED, described).into_response());
    }
    let kind = [(CONTENT_TYPE, media_type(path))];
    Ok((described, kind, found.data.into_owned()).into_response())
}

fn media_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "json" | "map" => "application/json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "webp" => "image/webp",
        "woff2" => "font/woff2",
        "txt" | "md" => "text/plain; charset=utf-8",
        "webmanifest" => "application/manifest+json",
        _ => "application/octet-stream",
    }
}
