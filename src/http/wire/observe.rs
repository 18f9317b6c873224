//! The record of requests: an id, a span, one log line and one measured duration.
//!
//! Only the matched route is recorded, never the path, the query or a header: they may name files
//! or patients.

use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderValue, Method};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument;

use super::request_id;

/// Histogram of the time from a request's head to its answer's head.
pub const DURATION: &str = "lvmed_http_request_duration_seconds";

/// Names a request, opens its span, and records how it was answered.
pub async fn observe(request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request_id::fresh();
    let method = known(request.method());
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "unmatched".to_owned(), |route| route.as_str().to_owned());
    let span = tracing::info_span!("request", %id, method, %route);

    let mut response =
        request_id::scope(id.clone(), next.run(request)).instrument(span.clone()).await;

    let status = response.status().as_u16();
    let elapsed = started.elapsed();
    span.in_scope(|| {
        tracing::info!(status, elapsed_ms = elapsed.as_millis() as u64, "answered");
    });
    let labels = [("route", route), ("method", method.to_owned()), ("status", status.to_string())];
    metrics::histogram!(DURATION, &labels).record(elapsed.as_secs_f64());
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(request_id::HEADER, id);
    }
    response
}

/// The method as a label; a client can invent methods, but not labels.
fn known(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}
