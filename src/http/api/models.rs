//! Published models.

use axum::extract::State;
use axum::http::StatusCode;

use crate::domain::model::Model;
use crate::domain::{ModelId, Role};
use crate::http::app::App;
use crate::http::wire::answer::shape::{Items, Json};
use crate::http::wire::caller::Caller;
use crate::http::wire::documented::{Guarded, Missing};
use crate::http::wire::extract::Id;
use crate::http::wire::problem::Problem;
use crate::store::{deletion, models};

/// All models, newest first.
#[utoipa::path(get, path = "/api/v1/models", tag = "models", operation_id = "list_models",
    responses((status = 200, description = "All models", body = Items<Model>), Guarded))]
pub async fn list(State(app): State<App>, caller: Caller) -> Result<Json<Items<Model>>, Problem> {
    caller.must(Role::Viewer)?;
    Ok(Items::json(models::list(&app.store.pool).await?))
}

/// One model with its evaluation and its files.
#[utoipa::path(get, path = "/api/v1/models/{id}", tag = "models", operation_id = "get_model",
    params(("id" = ModelId, Path, description = "The model's id")),
    responses((status = 200, description = "The model", body = Model), Missing, Guarded))]
pub async fn one(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<ModelId>,
) -> Result<Json<Model>, Problem> {
    caller.must(Role::Viewer)?;
    existing(&app, id).await.map(Json)
}

/// Deletes a model and its files. The run that made it stays on record, with the evaluation.
#[utoipa::path(delete, path = "/api/v1/models/{id}", tag = "models", operation_id = "delete_model",
    params(("id" = ModelId, Path, description = "The model's id")),
    responses((status = 204, description = "It is deleted"), Missing, Guarded))]
pub async fn delete(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<ModelId>,
) -> Result<StatusCode, Problem> {
    caller.must(Role::Trainer)?;
    if !deletion::model(&app.store, id).await? {
        return Err(Problem::missing("model", id));
    }
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn existing(app: &App, id: ModelId) -> Result<Model, Problem> {
    models::one(&app.store.pool, id).await?.ok_or_else(|| Problem::missing("model", id))
}
