//! Uploads into a dataset: a ZIP archive or one image, streamed to disk and then read.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_LENGTH;
use serde::Deserialize;

use super::datasets;
use crate::domain::dataset::UploadReport;
use crate::domain::{DatasetId, Role, Split, UploadId, line};
use crate::http::app::App;
use crate::http::wire::answer::shape::Json;
use crate::http::wire::body::spool;
use crate::http::wire::caller::{AsTrainer, Caller};
use crate::http::wire::documented::{BadUpload, Bytes, Guarded, Missing};
use crate::http::wire::extract::{Checks, Id, Query};
use crate::http::wire::problem::{Code, Problem};
use crate::http::wire::underway::{Owner, UploadState};
use crate::service::intake::Upload;

/// What applies to the uploaded files that do not say it themselves.
#[derive(Debug, Clone, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct UploadQuery {
    /// Name of the file, shown in reports. A ZIP archive is known by its content.
    #[param(max_length = 1000, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$")]
    pub file: Option<String>,
    /// Class of files that neither a row of `labels.csv` nor a folder gives one.
    #[param(max_length = 120, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$")]
    pub label: Option<String>,
    /// Patient of files that do not say; kept as a keyed hash only.
    #[param(max_length = 1000, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$")]
    pub patient: Option<String>,
    /// Split of files that neither a row nor a folder gives one.
    pub split: Option<Split>,
    /// An id of the caller's making, by which `GET /api/v1/uploads/{id}` tells how far it is.
    #[param(value_type = Option<uuid::Uuid>)]
    pub progress: Option<UploadId>,
}

/// Adds images to a dataset.
///
/// The body is a ZIP archive (a folder for each class, or a `labels.csv` with the columns `file`,
/// `label`, and optionally `patient` and `split`) or a single PNG, JPEG or DICOM file. What can be
/// read is kept, stripped of what identifies the patient; the rest is listed with a reason. A body
/// that breaks off leaves nothing behind.
#[utoipa::path(post, path = "/api/v1/datasets/{id}/uploads", tag = "datasets",
    operation_id = "upload_images",
    params(("id" = DatasetId, Path, description = "The dataset's id"), UploadQuery),
    request_body(description = "A ZIP archive, or one PNG, JPEG or DICOM file",
        content((Bytes = "application/octet-stream"), (Bytes = "application/zip"))),
    responses((status = 200, description = "What became of the files", body = UploadReport),
        Missing, BadUpload, Guarded))]
pub async fn create(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<DatasetId>,
    Query(mut query): Query<UploadQuery>,
    request: Request,
) -> Result<Json<UploadReport>, Problem> {
    caller.must(Role::Trainer)?;
    query.check()?;
    datasets::existing(&app, id).await?;
    let place = Arc::clone(&app.gates.uploads).try_acquire_owned().map_err(|_| busy(&app))?;
    let owner = Owner::of(request.headers());
    let watched = app.underway.begin(query.progress, owner)?;
    let declared = request.headers().get(CONTENT_LENGTH);
    let declared = declared.and_then(|value| value.to_str().ok()?.parse().ok());
    let file = spool::take(&app, request.into_body(), declared).await?;
    watched.received();
    let UploadQuery { file: name, label, patient, split, progress: _ } = query;
    let progress = watched.progress();
    let upload = Upload { dataset: id, file, name, label, patient, split, progress };
    // Once begun it goes to the end, with or without its caller, and keeps its place until then.
    let work = tokio::task::spawn_blocking(move || {
        let report = app.intake.take_in(upload);
        drop((place, watched));
        report
    });
    Ok(Json(work.await??))
}

/// How far an upload is that the caller sends, by the id that it was sent with (`progress=…`).
///
/// Known while it goes on; when it has ended, its own answer says what became of it. That it is not
/// known is an answer and no error: who asks can be faster than the upload. What is no id is not found.
#[utoipa::path(get, path = "/api/v1/uploads/{id}", tag = "datasets",
    operation_id = "get_upload_state",
    params(("id" = uuid::Uuid, Path, description = "The id that the upload was sent with")),
    responses((status = 200, description = "How far it is", body = UploadState), Missing, Guarded))]
pub async fn state(
    State(app): State<App>,
    _: AsTrainer,
    Id(id): Id<UploadId>,
    headers: HeaderMap,
) -> Json<UploadState> {
    Json(app.underway.state(id, Owner::of(&headers)))
}

impl UploadQuery {
    /// Everything that is wrong; else the class in the form that is stored.
    fn check(&mut self) -> Result<(), Problem> {
        let mut checks = Checks::default();
        checks.text("file", self.file.as_deref()).text("patient", self.patient.as_deref());
        let label = self.label.take().filter(|label| !label.trim().is_empty());
        match label.as_deref().map(line::parse).transpose() {
            Ok(label) => self.label = label,
            Err(error) => drop(checks.fail("label", error)),
        }
        checks.done()
    }
}

pub(super) fn busy(app: &App) -> Problem {
    let max = app.limits.uploads;
    let detail =
        format!("{max} uploads are being taken in; that is the limit (LVMED_LIMIT_UPLOADS)");
    Problem::new(Code::Busy, detail)
}
