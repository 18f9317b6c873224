//! The layers that apply to every answer: its record, its security headers, compression, caught
//! panics.

use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version};
use axum::{Router, middleware};
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{DefaultPredicate, Predicate};
use tower_http::set_header::SetResponseHeaderLayer;

use super::answer::digest::REPR_DIGEST;
use super::body::drain;
use super::standing::Standing;
use super::{listen, observe, problem, standing};

/// Nothing is loaded from elsewhere, and no other page may frame this one. Previews come as blobs.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; img-src 'self' blob: data:; \
     object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// Applies the layers; the first one sees a request first and its answer last.
pub fn apply(routes: Router, standing: &Standing) -> Router {
    routes.layer(
        ServiceBuilder::new()
            .layer(middleware::from_fn(observe::observe))
            .layer(header("x-content-type-options", "nosniff"))
            .layer(header("content-security-policy", CONTENT_SECURITY_POLICY))
            .layer(header("referrer-policy", "no-referrer"))
            .layer(header("x-frame-options", "DENY"))
            .layer(header("cross-origin-resource-policy", "same-origin"))
            .layer(CompressionLayer::new().compress_when(compressible()))
            .layer(middleware::from_fn(drain::drain))
            .layer(CatchPanicLayer::custom(problem::panicked))
            .layer(middleware::from_fn(listen::answer_probes_only))
            .layer(middleware::from_fn_with_state(standing.clone(), standing::watch))
            // Each body is read by `body`, which holds it to the limit of its route.
            .layer(DefaultBodyLimit::disable()),
    )
}

/// Everything but event streams, images and downloads, whose length and digest must stay.
fn compressible() -> impl Predicate {
    let download = |_: StatusCode, _: Version, headers: &HeaderMap, _: &axum::http::Extensions| {
        !headers.contains_key(REPR_DIGEST)
    };
    DefaultPredicate::new().and(download)
}

fn header(name: &'static str, value: &'static str) -> SetResponseHeaderLayer<HeaderValue> {
    SetResponseHeaderLayer::if_not_present(
        HeaderName::from_static(name),
        HeaderValue::from_static(value),
    )
}
