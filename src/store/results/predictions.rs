//! The probabilities that a finished run gave each test image.

use sqlx::types::Json;
use sqlx::{PgConnection, PgPool, Row};

use crate::domain::image::Format;
use crate::domain::{ImageId, RunId};
use crate::store::data::images;
use crate::store::error::StoreError;
use crate::store::row::{count, json, small};

/// What a run said of one test image.
#[derive(Debug, Clone, PartialEq, serde::Serialize, utoipa::ToSchema)]
pub struct TestPrediction {
    /// The image.
    pub image: ImageId,
    /// The number of its file in the dataset.
    pub number: u64,
    /// Format of its file.
    pub format: Format,
    /// Frame within the file, from 0.
    pub frame: u32,
    /// Its true class.
    pub truth: String,
    /// The probability of each class, in the order of the evaluation's labels.
    pub probabilities: Vec<f32>,
}

pub(super) async fn put(
    connection: &mut PgConnection,
    run: RunId,
    predictions: &[(ImageId, Vec<f32>)],
) -> Result<(), StoreError> {
    let ids: Vec<uuid::Uuid> = predictions.iter().map(|(image, _)| image.0).collect();
    let values: Vec<Json<&Vec<f32>>> = predictions.iter().map(|(_, values)| Json(values)).collect();
    sqlx::query(
        "insert into predictions (run_id, image_id, probabilities)
         select $1, * from unnest($2::uuid[], $3::jsonb[])",
    )
    .bind(run.0)
    .bind(ids)
    .bind(values)
    .execute(connection)
    .await?;
    Ok(())
}

/// The predictions of a run for its test images.
pub async fn list(pool: &PgPool, run: RunId) -> Result<Vec<TestPrediction>, StoreError> {
    let rows = sqlx::query(
        "select p.image_id, i.number, i.format, i.frame, v.label, p.probabilities
         from predictions p
         join runs r on r.id = p.run_id
         join images i on i.id = p.image_id
         join version_images v on v.image_id = p.image_id and v.version_id = r.dataset_version_id
         where p.run_id = $1 order by i.number, i.frame, p.image_id",
    )
    .bind(run.0)
    .fetch_all(pool)
    .await?;
    let prediction = |row: &sqlx::postgres::PgRow| {
        Ok(TestPrediction {
            image: ImageId(row.try_get("image_id")?),
            number: count(row, "number")?,
            format: images::format(row)?,
            frame: small(row, "frame")?,
            truth: row.try_get("label")?,
            probabilities: json(row, "probabilities")?,
        })
    };
    rows.iter().map(prediction).collect()
}
