//! Published models: written in the one transaction that finishes their run.

use sqlx::types::Json;
use sqlx::{FromRow, PgConnection, PgPool, Row, postgres::PgRow};

use super::predictions;
use crate::domain::evaluation::Evaluation;
use crate::domain::model::{Artifact, Model};
use crate::domain::name::Name;
use crate::domain::run::Outcome;
use crate::domain::{BackboneId, ImageId, ModelId, Preprocessing, RunId};
use crate::store::error::StoreError;
use crate::store::row::{count, json, name, parsed, small};
use crate::store::run::queue::{Claimed, succeed};

/// The model that a finished run publishes; its artifacts' blobs are stored already.
#[derive(Debug, Clone)]
pub struct Publication {
    /// Name of the model; its version counts up within the name.
    pub name: Name,
    /// The backbone that it started from.
    pub backbone: BackboneId,
    /// Class labels in the order of the outputs.
    pub labels: Vec<String>,
    /// The preparation of pictures for it.
    pub preprocessing: Preprocessing,
    /// The evaluation on the test split.
    pub evaluation: Evaluation,
    /// The licence it inherits.
    pub license: String,
    /// Its files.
    pub artifacts: Vec<Artifact>,
    /// The probabilities of each test image.
    pub predictions: Vec<(ImageId, Vec<f32>)>,
}

/// Publishes a model and finishes its run, both or neither. A worker whose lease was lost gets
/// [`StoreError::LeaseLost`] and publishes nothing.
pub async fn publish(
    pool: &PgPool,
    run: &Claimed,
    publication: &Publication,
) -> Result<ModelId, StoreError> {
    let id = ModelId::new();
    let mut transaction = pool.begin().await?;
    let evaluation = Box::new(publication.evaluation.clone());
    let outcome = Outcome::Finetune { evaluation, model: Some(id) };
    succeed(&mut transaction, run, &outcome).await?;
    // Two runs of one name that finish together would take the same version.
    sqlx::query("select pg_advisory_xact_lock(hashtextextended($1, 0))")
        .bind(publication.name.as_str())
        .execute(&mut *transaction)
        .await?;
    sqlx::query(
        "insert into models
             (id, name, version, run_id, backbone_id, task, labels, preprocessing, evaluation,
              license)
         values ($1, $2, (select coalesce(max(version), 0) + 1 from models where name = $2),
             $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(id.0)
    .bind(publication.name.as_str())
    .bind(run.id.0)
    .bind(publication.backbone.0)
    .bind(publication.evaluation.task().as_str())
    .bind(Json(&publication.labels))
    .bind(Json(&publication.preprocessing))
    .bind(Json(&publication.evaluation))
    .bind(&publication.license)
    .execute(&mut *transaction)
    .await?;
    for artifact in &publication.artifacts {
        insert_artifact(&mut transaction, id, artifact).await?;
    }
    predictions::put(&mut transaction, run.id, &publication.predictions).await?;
    transaction.commit().await?;
    Ok(id)
}

async fn insert_artifact(
    connection: &mut PgConnection,
    model: ModelId,
    artifact: &Artifact,
) -> Result<(), StoreError> {
    sqlx::query(
        "insert into artifacts (model_id, name, media_type, size_bytes, sha256)
         values ($1, $2, $3, $4, $5)",
    )
    .bind(model.0)
    .bind(&artifact.name)
    .bind(&artifact.media_type)
    .bind(artifact.size_bytes as i64)
    .bind(artifact.sha256.to_string())
    .execute(connection)
    .await?;
    Ok(())
}

/// A model as its row gives it, artifacts still to come.
struct Found(Model);

impl FromRow<'_, PgRow> for Found {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self(Model {
            id: ModelId(row.try_get("id")?),
            name: name(row, "name")?,
            version: small(row, "version")?,
            stage: parsed(row, "stage")?,
            run: RunId(row.try_get("run_id")?),
            backbone: BackboneId(row.try_get("backbone_id")?),
            task: parsed(row, "task")?,
            labels: json(row, "labels")?,
            preprocessing: json(row, "preprocessing")?,
            evaluation: json(row, "evaluation")?,
            license: row.try_get("license")?,
            artifacts: Vec::new(),
            created_at: row.try_get("created_at")?,
        }))
    }
}

/// The model of this id, unless it was deleted.
pub async fn one(pool: &PgPool, id: ModelId) -> Result<Option<Model>, StoreError> {
    let found: Option<Found> =
        sqlx::query_as("select * from models where id = $1 and deleted_at is null")
            .bind(id.0)
            .fetch_optional(pool)
            .await?;
    match found {
        None => Ok(None),
        Some(Found(model)) => Ok(Some(with_artifacts(pool, model).await?)),
    }
}

/// All models, newest first.
pub async fn list(pool: &PgPool) -> Result<Vec<Model>, StoreError> {
    let found: Vec<Found> =
        sqlx::query_as("select * from models where deleted_at is null order by id desc")
            .fetch_all(pool)
            .await?;
    let mut models = Vec::with_capacity(found.len());
    for Found(model) in found {
        models.push(with_artifacts(pool, model).await?);
    }
    Ok(models)
}

async fn with_artifacts(pool: &PgPool, mut model: Model) -> Result<Model, StoreError> {
    let rows = sqlx::query(
        "select name, media_type, size_bytes, sha256 from artifacts where model_id = $1
         order by name",
    )
    .bind(model.id.0)
    .fetch_all(pool)
    .await?;
    for row in &rows {
        model.artifacts.push(Artifact {
            name: row.try_get("name")?,
            media_type: row.try_get("media_type")?,
            size_bytes: count(row, "size_bytes")?,
            sha256: parsed(row, "sha256")?,
        });
    }
    Ok(model)
}
