//! Versions: frozen snapshots of datasets, which runs learn from.

use axum::extract::State;
use serde::Deserialize;

use super::datasets;
use crate::domain::dataset::Version;
use crate::domain::split::Shares;
use crate::domain::{DatasetId, Role, Split, VersionId};
use crate::http::app::App;
use crate::http::wire::answer::shape::{Created, Items, Json};
use crate::http::wire::caller::{AsTrainer, Caller};
use crate::http::wire::documented::{BadJson, Guarded, Invalid, Missing};
use crate::http::wire::extract::{Id, JsonBody, Query};
use crate::http::wire::problem::Problem;
use crate::service::freeze::Draw;
use crate::store::versions::{self, VersionImage};

/// How a version is to be drawn.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NewVersion {
    /// Seed of the draw; the same seed on the same content gives the same splits.
    #[schema(maximum = 9_007_199_254_740_991_u64)]
    pub seed: u64,
    /// Whether images without a label belong to it as well. Pretraining learns from them, nothing
    /// else does. They are training images, unless their patient is in another split.
    pub include_unlabelled: bool,
    /// Share of the images for validation: it decides when training stops, and a probe learns from it.
    #[schema(minimum = 0.0, exclusive_maximum = 1.0)]
    pub validation: f64,
    /// Share of the images for the test; the rest is for training.
    #[schema(exclusive_minimum = 0.0, exclusive_maximum = 1.0)]
    pub test: f64,
}

impl Default for NewVersion {
    fn default() -> Self {
        Self { seed: 0, include_unlabelled: false, validation: 0.15, test: 0.25 }
    }
}

/// Which images of a version to list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SplitQuery {
    /// Only images of this split.
    split: Option<Split>,
}

/// Freezes the images of a dataset into a version: those that have a label, or all of them.
///
/// No patient is ever in two splits. Splits that the labels give are honoured; the rest is drawn,
/// stratified by class.
#[utoipa::path(post, path = "/api/v1/datasets/{id}/versions", tag = "datasets",
    operation_id = "freeze_version",
    params(("id" = DatasetId, Path, description = "The dataset's id")),
    request_body = NewVersion,
    responses((status = 201, description = "The version", body = Version,
        headers(("Location" = String, description = "Where it is"))),
        Missing, BadJson, Guarded))]
pub async fn create(
    State(app): State<App>,
    _: AsTrainer,
    Id(id): Id<DatasetId>,
    JsonBody(wanted): JsonBody<NewVersion>,
) -> Result<Created<Version>, Problem> {
    let dataset = datasets::existing(&app, id).await?;
    let draw = Draw {
        dataset: id,
        task: dataset.task,
        seed: wanted.seed,
        shares: Shares { validation: wanted.validation, test: wanted.test },
        include_unlabelled: wanted.include_unlabelled,
    };
    let version = app.freezer.freeze(draw).await?;
    Ok(Created::at(format!("/api/v1/versions/{}", version.id), version))
}

/// The versions of a dataset, oldest first.
#[utoipa::path(get, path = "/api/v1/datasets/{id}/versions", tag = "datasets",
    operation_id = "list_versions",
    params(("id" = DatasetId, Path, description = "The dataset's id")),
    responses((status = 200, description = "All versions", body = Items<Version>),
        Missing, Guarded))]
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<DatasetId>,
) -> Result<Json<Items<Version>>, Problem> {
    caller.must(Role::Viewer)?;
    datasets::existing(&app, id).await?;
    Ok(Items::json(versions::list(&app.store.pool, id).await?))
}

/// One version.
#[utoipa::path(get, path = "/api/v1/versions/{id}", tag = "datasets", operation_id = "get_version",
    params(("id" = VersionId, Path, description = "The version's id")),
    responses((status = 200, description = "The version", body = Version), Missing, Guarded))]
pub async fn one(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<VersionId>,
) -> Result<Json<Version>, Problem> {
    caller.must(Role::Viewer)?;
    existing(&app, id).await.map(Json)
}

/// The images of a version as it froze them, in an order that only their content decides.
#[utoipa::path(get, path = "/api/v1/versions/{id}/images", tag = "datasets",
    operation_id = "list_version_images",
    params(("id" = VersionId, Path, description = "The version's id"), SplitQuery),
    responses((status = 200, description = "All of them", body = Items<VersionImage>),
        Missing, Invalid, Guarded))]
pub async fn images(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<VersionId>,
    Query(query): Query<SplitQuery>,
) -> Result<Json<Items<VersionImage>>, Problem> {
    caller.must(Role::Viewer)?;
    existing(&app, id).await?;
    Ok(Items::json(versions::images(&app.store.pool, id, query.split).await?))
}

async fn existing(app: &App, id: VersionId) -> Result<Version, Problem> {
    versions::one(&app.store.pool, id).await?.ok_or_else(|| Problem::missing("version", id))
}
