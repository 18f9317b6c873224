//! Single images of a dataset: what is recorded of them, and how they look.

use std::fs::File;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::IntoResponse;
use serde::Deserialize;

use crate::domain::image::{Image, Window};
use crate::domain::{ImageId, Role};
use crate::http::app::App;
use crate::http::wire::answer::shape::Json;
use crate::http::wire::caller::Caller;
use crate::http::wire::documented::{Bytes, Guarded, Invalid, Missing};
use crate::http::wire::extract::{Checks, Id, Query};
use crate::http::wire::problem::Problem;
use crate::store::{deletion, images};

/// Longest side of a preview, in pixels.
const MAX_SIDE: u32 = 4096;

/// How an image is to be shown.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PreviewQuery {
    /// Centre of the grey-scale window; together with `width`.
    center: Option<f64>,
    /// Width of the grey-scale window; together with `center`.
    #[param(exclusive_minimum = 0.0)]
    width: Option<f64>,
    /// Longest side of the preview, 4096 when absent; larger images are scaled down.
    #[param(minimum = 16, maximum = 4096)]
    max_side: Option<u32>,
}

impl PreviewQuery {
    /// The window asked for, everything checked.
    fn window(&self) -> Result<Option<Window>, Problem> {
        let mut checks = Checks::default();
        checks.within("max_side", self.max_side, 16, MAX_SIDE);
        let window = self.center.zip(self.width).map(|(center, width)| Window { center, width });
        if self.center.is_some() != self.width.is_some() {
            checks.fail("center", "and `width` belong together; give both or none");
        }
        if window.is_some_and(|window| !window.center.is_finite() || !window.width.is_finite()) {
            checks.fail("center", "and `width` must be finite numbers");
        }
        if window.is_some_and(|window| window.width <= 0.0) {
            checks.fail("width", "must be above 0");
        }
        checks.done()?;
        Ok(window)
    }
}

/// What is recorded of an image.
#[utoipa::path(get, path = "/api/v1/images/{id}", tag = "datasets", operation_id = "get_image",
    params(("id" = ImageId, Path, description = "The image's id")),
    responses((status = 200, description = "The image", body = Image), Missing, Guarded))]
pub async fn one(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<ImageId>,
) -> Result<Json<Image>, Problem> {
    caller.must(Role::Viewer)?;
    existing(&app, id).await.map(Json)
}

/// Deletes an image from its dataset. Versions that hold it keep it.
#[utoipa::path(delete, path = "/api/v1/images/{id}", tag = "datasets",
    operation_id = "delete_image",
    params(("id" = ImageId, Path, description = "The image's id")),
    responses((status = 204, description = "It is deleted"), Missing, Guarded))]
pub async fn delete(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<ImageId>,
) -> Result<StatusCode, Problem> {
    caller.must(Role::Trainer)?;
    if !deletion::image(&app.store, id).await? {
        return Err(Problem::missing("image", id));
    }
    Ok(StatusCode::NO_CONTENT)
}

/// An image as an 8-bit PNG, through the recorded window or another one.
#[utoipa::path(get, path = "/api/v1/images/{id}/preview", tag = "datasets",
    operation_id = "preview_image",
    params(("id" = ImageId, Path, description = "The image's id"), PreviewQuery),
    responses((status = 200, description = "The preview", body = Bytes,
        content_type = "image/png"), Missing, Invalid, Guarded))]
pub async fn preview(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<ImageId>,
    Query(query): Query<PreviewQuery>,
) -> Result<impl IntoResponse, Problem> {
    caller.must(Role::Viewer)?;
    let window = query.window()?;
    let image = existing(&app, id).await?;
    // As many at once as there are cores: each may take as much memory as a decoded file.
    let place = app.gates.previews.clone().acquire_owned().await.map_err(Problem::internal)?;
    let path = app.store.blobs.materialise(&image.blob, &app.spool.join("originals")).await?;
    let png = tokio::task::spawn_blocking(move || {
        let file = File::open(path)?;
        let max_side = query.max_side.unwrap_or(MAX_SIDE);
        let png = app.decoder.preview(&file, image.frame, window, max_side);
        drop(place);
        png
    })
    .await??;
    Ok(([(CONTENT_TYPE, "image/png"), (CACHE_CONTROL, "private, max-age=3600")], png))
}

async fn existing(app: &App, id: ImageId) -> Result<Image, Problem> {
    images::one(&app.store.pool, id).await?.ok_or_else(|| Problem::missing("image", id))
}

#[cfg(test)]
mod tests {
    use super::PreviewQuery;

    fn query(center: Option<f64>, width: Option<f64>, max_side: Option<u32>) -> PreviewQuery {
        PreviewQuery { center, width, max_side }
    }

    #[test]
    fn a_window_is_whole_finite_and_open() {
        assert!(query(Some(40.0), Some(400.0), Some(16)).window().is_ok());
        assert!(query(None, None, Some(4096)).window().is_ok());
        assert!(query(Some(40.0), None, None).window().is_err());
        assert!(query(Some(f64::NAN), Some(1.0), None).window().is_err());
        assert!(query(Some(0.0), Some(0.0), None).window().is_err());
        assert!(query(None, None, Some(15)).window().is_err());
        assert!(query(None, None, Some(4097)).window().is_err());
    }
}
