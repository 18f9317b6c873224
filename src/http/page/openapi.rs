//! The API's routes with their document: what is served and what is written down cannot differ.

use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{Components, OpenApi as Document, RefOr, Schema};
use utoipa::{Modify, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::http::api::{
    architectures, artifacts, backbones, datasets, estimates, events, health, images, keys,
    matched_pairs, models, predict, replays, runs, uploads, versions,
};
use crate::http::app::App;
use crate::http::wire::documented::PROBLEM_SCHEMA;
use crate::http::wire::problem;

/// The frame of the document; the routes bring the rest.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "LVM-Med server",
        description = "Few-shot fine-tuning of medical vision backbones: upload labelled images, \
                       freeze a version, fine-tune, evaluate, download, predict. Errors are \
                       `application/problem+json`; long work answers 202 and is watched by polling \
                       or by its event stream.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    tags(
        (name = "backbones", description = "Pretrained feature extractors"),
        (name = "datasets", description = "Labelled images, and frozen versions of them"),
        (name = "runs", description = "Fine-tuning, from the queue to its result"),
        (name = "models", description = "What finished runs publish: files and predictions"),
        (name = "keys", description = "API keys and who the caller is"),
        (name = "server", description = "Health and version; open to everybody")
    ),
    security(("api_key" = [])),
    modifiers(&Frame)
)]
struct Api;

/// Adds what the derive has no words for.
struct Frame;

impl Modify for Frame {
    fn modify(&self, document: &mut Document) {
        let components = document.components.get_or_insert_with(Components::new);
        let mut bearer = Http::new(HttpAuthScheme::Bearer);
        bearer.bearer_format = Some("lvmed_…".to_owned());
        bearer.description = Some("An API key; its role decides what it may do".to_owned());
        components.add_security_scheme("api_key", SecurityScheme::Http(bearer));
        let mut schemas = Vec::new();
        <problem::Body as utoipa::ToSchema>::schemas(&mut schemas);
        components.schemas.extend(schemas);
        let body = <problem::Body as utoipa::PartialSchema>::schema();
        components.schemas.insert(PROBLEM_SCHEMA.to_owned(), body);
    }
}

/// Every route of the API. One `routes!` a path: two paths in one would each answer for both.
fn api() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(Api::openapi())
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(health::version))
        .routes(routes!(health::metrics))
        .routes(routes!(keys::me))
        .routes(routes!(keys::list, keys::create))
        .routes(routes!(keys::revoke))
        .routes(routes!(architectures::list))
        .routes(routes!(backbones::list, backbones::import))
        .routes(routes!(backbones::random))
        .routes(routes!(backbones::one, backbones::change, backbones::delete))
        .routes(routes!(artifacts::of_backbone))
        .routes(routes!(predict::embed))
        .routes(routes!(datasets::list, datasets::create))
        .routes(routes!(datasets::one, datasets::delete))
        .routes(routes!(datasets::rejected))
        .routes(routes!(datasets::images))
        .routes(routes!(uploads::create))
        .routes(routes!(uploads::state))
        .routes(routes!(versions::list, versions::create))
        .routes(routes!(versions::one))
        .routes(routes!(versions::images))
        .routes(routes!(images::one, images::delete))
        .routes(routes!(images::preview))
        .routes(routes!(runs::list, runs::create))
        .routes(routes!(runs::one))
        .routes(routes!(runs::cancel))
        .routes(routes!(runs::retry))
        .routes(routes!(estimates::create))
        .routes(routes!(replays::create))
        .routes(routes!(events::stream))
        .routes(routes!(runs::curves))
        .routes(routes!(runs::predictions))
        .routes(routes!(matched_pairs::one))
        .routes(routes!(models::list))
        .routes(routes!(models::one, models::delete))
        .routes(routes!(artifacts::download))
        .routes(routes!(predict::predict))
}

/// The API's document.
pub fn document() -> Document {
    served().1
}

/// The API's routes and their document.
pub(crate) fn served() -> (axum::Router<App>, Document) {
    let (routes, mut document) = api().split_for_parts();
    document.components.iter_mut().for_each(open_recipes);
    (routes, document)
}

/// A run's spec is a recipe with its `kind` beside it, and so is an objective's settings. One that
/// allowed no further property would leave nothing that fits both.
fn open_recipes(components: &mut Components) {
    for name in TAGGED {
        if let Some(RefOr::T(Schema::Object(object))) = components.schemas.get_mut(*name) {
            object.additional_properties = None;
        }
    }
}

/// Schemas that are described with their `kind` beside them.
const TAGGED: &[&str] =
    &["Finetune", "Pretrain", "Replay", "Matching", "SimClr", "Barlow", "Vicregl", "Moco", "Dino"];

/// The API's document as it is committed.
pub fn document_json() -> serde_json::Result<String> {
    document().to_pretty_json()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::document;

    #[test]
    fn every_operation_has_a_name_of_its_own_and_every_reference_a_target() {
        let text = document().to_json().expect("a document");
        let document: serde_json::Value = serde_json::from_str(&text).expect("JSON");

        let paths = document["paths"].as_object().expect("paths");
        let operations = paths.values().filter_map(|path| path.as_object()).flatten();
        let names: Vec<&str> =
            operations.filter_map(|(_, operation)| operation["operationId"].as_str()).collect();
        let distinct: BTreeSet<&str> = names.iter().copied().collect();
        assert_eq!(names.len(), distinct.len(), "{names:?}");

        for rest in text.split("#/components/schemas/").skip(1) {
            let name = rest.split('"').next().unwrap_or_default();
            assert!(document["components"]["schemas"].get(name).is_some(), "{name}");
        }
    }
}
