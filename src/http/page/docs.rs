//! The API's document at `/openapi.json`, and Swagger UI at `/docs`, served without the internet.

use std::sync::Arc;

use axum::Router;
use axum::http::HeaderValue;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::http::app::App;
use crate::http::wire::problem::unknown_route;

/// Swagger UI sets styles from its script and draws its icons from data URLs.
const DOCS_POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; \
     img-src 'self' data:; object-src 'none'; base-uri 'none'; frame-ancestors 'none'";

/// The routes of the document and of Swagger UI.
pub fn routes(document: &utoipa::openapi::OpenApi) -> Router<App> {
    let text: Arc<str> = document.to_json().unwrap_or_default().into();
    let serve = move || {
        let text = Arc::clone(&text);
        async move { ([(CONTENT_TYPE, "application/json")], text.to_string()) }
    };
    let swagger: Router<App> = SwaggerUi::new("/docs").config(Config::from("/openapi.json")).into();
    swagger.layer(axum::middleware::map_response(relaxed)).route("/openapi.json", get(serve))
}

/// Gives Swagger UI a policy under which it works, and unknown files of it the usual problem.
async fn relaxed(response: Response) -> Response {
    if response.status().is_client_error() || response.status().is_server_error() {
        return unknown_route().await.into_response();
    }
    let mut response = response;
    let policy = HeaderValue::from_static(DOCS_POLICY);
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    response
}
