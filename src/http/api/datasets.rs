//! Datasets: named collections of labelled images.

use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;

use crate::domain::dataset::{Dataset, RejectedFile};
use crate::domain::image::Image;
use crate::domain::name::Name;
use crate::domain::{DatasetId, ImageId, Role, Sha256, Task, line};
use crate::http::app::App;
use crate::http::wire::answer::shape::{Created, Items, Json, Page};
use crate::http::wire::caller::{AsTrainer, Caller};
use crate::http::wire::documented::{BadJson, Conflict, Guarded, Invalid, Missing};
use crate::http::wire::extract::{Checks, Id, JsonBody, Query, page_size};
use crate::http::wire::problem::Problem;
use crate::store::{datasets, deletion, images};

/// A dataset to be made.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewDataset {
    /// Its name, which must be free.
    pub name: Name,
    /// The task that its labels are for; `classification` when absent.
    #[serde(default)]
    pub task: Task,
}

/// Which images of a dataset to list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ImagesQuery {
    /// Only images of this class.
    #[param(max_length = 1000, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$")]
    label: Option<String>,
    /// Only images of the file with this SHA-256: of the file as it was sent, or of the
    /// de-identified one that is stored.
    #[param(pattern = "^[0-9a-fA-F]{64}$")]
    sha256: Option<String>,
    /// Only images after this one; the `next` of the page before.
    after: Option<ImageId>,
    /// Images on the page; 100 when absent.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// All datasets, oldest first.
#[utoipa::path(get, path = "/api/v1/datasets", tag = "datasets", operation_id = "list_datasets",
    responses((status = 200, description = "All datasets", body = Items<Dataset>), Guarded))]
pub async fn list(State(app): State<App>, caller: Caller) -> Result<Json<Items<Dataset>>, Problem> {
    caller.must(Role::Viewer)?;
    Ok(Items::json(datasets::list(&app.store.pool).await?))
}

/// Makes an empty dataset.
#[utoipa::path(post, path = "/api/v1/datasets", tag = "datasets",
    operation_id = "create_dataset", request_body = NewDataset,
    responses((status = 201, description = "The dataset", body = Dataset,
        headers(("Location" = String, description = "Where it is"))),
        Conflict, BadJson, Guarded))]
pub async fn create(
    State(app): State<App>,
    _: AsTrainer,
    JsonBody(wanted): JsonBody<NewDataset>,
) -> Result<Created<Dataset>, Problem> {
    let dataset = datasets::create(&app.store.pool, &wanted.name, wanted.task).await?;
    Ok(Created::at(format!("/api/v1/datasets/{}", dataset.id), dataset))
}

/// One dataset with its counts.
#[utoipa::path(get, path = "/api/v1/datasets/{id}", tag = "datasets", operation_id = "get_dataset",
    params(("id" = DatasetId, Path, description = "The dataset's id")),
    responses((status = 200, description = "The dataset", body = Dataset), Missing, Guarded))]
pub async fn one(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<DatasetId>,
) -> Result<Json<Dataset>, Problem> {
    caller.must(Role::Viewer)?;
    existing(&app, id).await.map(Json)
}

/// Deletes a dataset with its images, their stored files unless another dataset holds them too, what
/// was predicted of them, and its rejected files. Models and evaluations stay on record, and of its
/// versions that runs learnt from the digest, the labels and the counts. An upload that is still
/// being read ends without keeping anything.
#[utoipa::path(delete, path = "/api/v1/datasets/{id}", tag = "datasets",
    operation_id = "delete_dataset",
    params(("id" = DatasetId, Path, description = "The dataset's id")),
    responses((status = 204, description = "It is deleted"), Missing, Conflict, Guarded))]
pub async fn delete(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<DatasetId>,
) -> Result<StatusCode, Problem> {
    caller.must(Role::Trainer)?;
    if !deletion::dataset(&app.store, id).await? {
        return Err(Problem::missing("dataset", id));
    }
    Ok(StatusCode::NO_CONTENT)
}

/// The files that uploads to the dataset could not take, each with the reason.
#[utoipa::path(get, path = "/api/v1/datasets/{id}/rejected", tag = "datasets",
    operation_id = "list_rejected_files",
    params(("id" = DatasetId, Path, description = "The dataset's id")),
    responses((status = 200, description = "The first of them, as many as \
        `LVMED_LIMIT_LISTED_FILES` allows", body = Items<RejectedFile>),
        Missing, Guarded))]
pub async fn rejected(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<DatasetId>,
) -> Result<Json<Items<RejectedFile>>, Problem> {
    caller.must(Role::Viewer)?;
    existing(&app, id).await?;
    Ok(Items::json(datasets::rejected(&app.store.pool, id, app.limits.listed_files).await?))
}

/// The images of a dataset in the order of their upload.
#[utoipa::path(get, path = "/api/v1/datasets/{id}/images", tag = "datasets",
    operation_id = "list_images",
    params(("id" = DatasetId, Path, description = "The dataset's id"), ImagesQuery),
    responses((status = 200, description = "A page of them", body = Page<Image>),
        Missing, Invalid, Guarded))]
pub async fn images(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<DatasetId>,
    Query(query): Query<ImagesQuery>,
) -> Result<Json<Page<Image>>, Problem> {
    caller.must(Role::Viewer)?;
    let sha256 = query.sha256.as_deref().map(|text| text.to_ascii_lowercase().parse::<Sha256>());
    let mut checks = Checks::default();
    checks.text("label", query.label.as_deref());
    if matches!(sha256, Some(Err(_))) {
        checks.fail("sha256", "must be the 64 hexadecimal digits of a SHA-256");
    }
    checks.done()?;
    let limit = page_size(query.limit)?;
    existing(&app, id).await?;
    let page = images::Page {
        label: query.label.as_deref().map(line::composed),
        file: sha256.and_then(Result::ok).map(|digest| (app.hasher.original(&digest), digest)),
        after: query.after,
        limit: limit + 1,
    };
    let found = images::list(&app.store.pool, id, &page).await?;
    Ok(Page::json(found, limit, |image| image.id.to_string()))
}

/// The dataset of this id, or a problem.
pub(super) async fn existing(app: &App, id: DatasetId) -> Result<Dataset, Problem> {
    datasets::one(&app.store.pool, id).await?.ok_or_else(|| Problem::missing("dataset", id))
}
