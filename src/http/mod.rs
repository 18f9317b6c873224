//! The HTTP API and the web page: adapters over `service`, which does what is asked.
//!
//! `api` has a file for each resource, `wire` what they share, `page` what people look at. Errors
//! become HTTP in `wire` only: `problem` decides statuses, `causes` says which problem each failure is.

pub mod api;
pub mod app;
pub mod page;
pub mod wire;

pub use app::{App, Gates};
pub use page::openapi::{document, document_json};

/// Everything that is served: the API, its document and the page, with all layers applied.
pub fn router(app: App) -> axum::Router {
    let (api, document) = page::openapi::served();
    let standing = app.standing.clone();
    let routes = api
        .merge(page::files::routes())
        .merge(page::docs::routes(&document))
        .fallback(wire::problem::unknown_route)
        .method_not_allowed_fallback(wire::problem::unknown_method)
        .with_state(app);
    wire::layers::apply(routes, &standing)
}
