//! Backbones: imported by administrators or pretrained here, used by runs.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use serde::Deserialize;

use super::form::backbone::{self as form, ImportForm};
use super::uploads;
use crate::domain::backbone::BackboneStage;
use crate::domain::name::Name;
use crate::domain::seed::MAX_SEED;
use crate::domain::{Architecture, Backbone, BackboneId, Preprocessing, Role};
use crate::http::app::App;
use crate::http::wire::answer::shape::{Created, Items, Json};
use crate::http::wire::caller::{AsAdmin, AsTrainer, Caller};
use crate::http::wire::documented::{
    BadJson, BadUpload, Busy, Conflict, Guarded, Missing, StorageFull,
};
use crate::http::wire::extract::{Id, JsonBody};
use crate::http::wire::problem::Problem;
use crate::service::import::RandomRequest;
use crate::store::{backbones, deletion};

/// All backbones, oldest first.
#[utoipa::path(get, path = "/api/v1/backbones", tag = "backbones", operation_id = "list_backbones",
    responses((status = 200, description = "All backbones", body = Items<Backbone>), Guarded))]
pub async fn list(
    State(app): State<App>,
    caller: Caller,
) -> Result<Json<Items<Backbone>>, Problem> {
    caller.must(Role::Viewer)?;
    Ok(Items::json(backbones::list(&app.store.pool).await?))
}

/// Imports a backbone from a safetensors file or a torch checkpoint (`.pth`, `.pt`, `.torch`).
///
/// The weights are read without running code, compared with the architecture, exported to ONNX and
/// checked against it. The part `file` comes last.
#[utoipa::path(post, path = "/api/v1/backbones", tag = "backbones",
    operation_id = "import_backbone",
    request_body(content = ImportForm, content_type = "multipart/form-data"),
    responses((status = 201, description = "The backbone", body = Backbone,
        headers(("Location" = String, description = "Where it is"))),
        (status = 200, description = "The same one, which was there already", body = Backbone,
        headers(("Location" = String, description = "Where it is"))),
        BadUpload, Guarded))]
pub async fn import(
    State(app): State<App>,
    caller: Caller,
    request: Request,
) -> Result<Created<Backbone>, Problem> {
    caller.must(Role::Admin)?;
    let uploads = Arc::clone(&app.gates.uploads);
    let _place = uploads.try_acquire_owned().map_err(|_| uploads::busy(&app))?;
    let (file, wanted) = form::read(&app, request).await?;
    let (backbone, new) = app.importer.import(file.path(), wanted).await?;
    Ok(Created { location: format!("/api/v1/backbones/{}", backbone.id), body: backbone, new })
}

/// A backbone of random weights to be made.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RandomBackbone {
    /// Name of the backbone.
    #[schema(min_length = 1, max_length = 120)]
    name: String,
    /// Its architecture.
    architecture: Architecture,
    /// Equal seeds give equal weights.
    #[serde(default)]
    #[schema(maximum = 9_007_199_254_740_991_u64)]
    seed: u64,
    /// Side of the square input, a multiple of what the architecture asks for (32, of DINOv2 14); 224 when absent.
    #[schema(minimum = 32, maximum = 2048)]
    size: Option<u32>,
}

/// Makes a backbone of random weights, for trying things out. It has learnt nothing: use imported
/// weights for results that count.
#[utoipa::path(post, path = "/api/v1/backbones/random", tag = "backbones",
    operation_id = "make_random_backbone",
    request_body = RandomBackbone,
    responses((status = 201, description = "The backbone", body = Backbone,
        headers(("Location" = String, description = "Where it is"))),
        (status = 200, description = "The same one, which was there already", body = Backbone,
        headers(("Location" = String, description = "Where it is"))),
        BadJson, Busy, StorageFull, Guarded))]
pub async fn random(
    State(app): State<App>,
    _: AsAdmin,
    JsonBody(wanted): JsonBody<RandomBackbone>,
) -> Result<Created<Backbone>, Problem> {
    let RandomBackbone { name, architecture, seed, size } = wanted;
    if seed > MAX_SEED {
        return Err(Problem::wrong("/seed", format!("seed is {seed}; 0 to {MAX_SEED} is allowed")));
    }
    let name = Name::parse(&name)?;
    let mut preprocessing = Preprocessing::imagenet();
    preprocessing.size = size.unwrap_or(preprocessing.size);
    preprocessing
        .validate(Some(architecture))
        .map_err(|error| Problem::wrong("/size", error.to_string()))?;
    let uploads = Arc::clone(&app.gates.uploads);
    let _place = uploads.try_acquire_owned().map_err(|_| uploads::busy(&app))?;
    let wanted = RandomRequest { name, architecture, seed, preprocessing };
    let (backbone, new) = app.importer.make_random(wanted).await?;
    Ok(Created { location: format!("/api/v1/backbones/{}", backbone.id), body: backbone, new })
}

/// One backbone.
#[utoipa::path(get, path = "/api/v1/backbones/{id}", tag = "backbones",
    operation_id = "get_backbone",
    params(("id" = BackboneId, Path, description = "The backbone's id")),
    responses((status = 200, description = "The backbone", body = Backbone), Missing, Guarded))]
pub async fn one(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<BackboneId>,
) -> Result<Json<Backbone>, Problem> {
    caller.must(Role::Viewer)?;
    existing(&app, id).await.map(Json)
}

/// What of a backbone is to change.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BackboneChange {
    /// Whether it may be trusted.
    stage: BackboneStage,
}

/// Approves a backbone that pretraining left as a candidate, or takes that back.
#[utoipa::path(patch, path = "/api/v1/backbones/{id}", tag = "backbones",
    operation_id = "change_backbone",
    params(("id" = BackboneId, Path, description = "The backbone's id")),
    request_body = BackboneChange,
    responses((status = 200, description = "The backbone as it is now", body = Backbone),
        Missing, BadJson, Guarded))]
pub async fn change(
    State(app): State<App>,
    _: AsTrainer,
    Id(id): Id<BackboneId>,
    JsonBody(wanted): JsonBody<BackboneChange>,
) -> Result<Json<Backbone>, Problem> {
    let changed = backbones::set_stage(&app.store.pool, id, wanted.stage).await?;
    changed.map(Json).ok_or_else(|| Problem::missing("backbone", id))
}

/// Deletes a backbone that no unfinished run uses, and its files. Models made from it go on working.
#[utoipa::path(delete, path = "/api/v1/backbones/{id}", tag = "backbones",
    operation_id = "delete_backbone",
    params(("id" = BackboneId, Path, description = "The backbone's id")),
    responses((status = 204, description = "It is deleted"), Missing, Conflict, Guarded))]
pub async fn delete(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<BackboneId>,
) -> Result<StatusCode, Problem> {
    caller.must(Role::Admin)?;
    if !deletion::backbone(&app.store, id).await? {
        return Err(Problem::missing("backbone", id));
    }
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn existing(app: &App, id: BackboneId) -> Result<Backbone, Problem> {
    backbones::one(&app.store.pool, id).await?.ok_or_else(|| Problem::missing("backbone", id))
}
