//! Rows of backbones, imported or pretrained.

use sqlx::types::Json;
use sqlx::{FromRow, PgConnection, PgExecutor, PgPool, Row, postgres::PgRow};

use crate::domain::backbone::{BackboneStage, Origin};
use crate::domain::run::Outcome;
use crate::domain::{Backbone, BackboneId, Preprocessing, RunId, Sha256};
use crate::store::error::StoreError;
use crate::store::row::{count, json, name, parsed, small};
use crate::store::run::queue::{Claimed, succeed};

/// The columns that every query of backbones selects. How one compares with its start is an outcome
/// of its run.
const COLUMNS: &str = "select b.*, nullif(r.outcome -> 'comparison', 'null') as comparison
     from backbones b left join runs r on r.id = b.run_id ";

/// A backbone as its row gives it.
struct Found(Backbone);

impl FromRow<'_, PgRow> for Found {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let comparison: Option<Json<_>> = row.try_get("comparison")?;
        Ok(Self(Backbone {
            id: BackboneId(row.try_get("id")?),
            name: name(row, "name")?,
            architecture: parsed(row, "architecture")?,
            preprocessing: json(row, "preprocessing")?,
            embedding_size: small(row, "embedding_size")?,
            parameters: count(row, "parameters")?,
            weights_sha256: parsed(row, "weights_sha256")?,
            weights_size_bytes: count(row, "weights_size_bytes")?,
            onnx_sha256: parsed(row, "onnx_sha256")?,
            source_sha256: parsed(row, "source_sha256")?,
            source_url: row.try_get("source_url")?,
            license: row.try_get("license")?,
            notices: json(row, "notices")?,
            parity: json(row, "parity")?,
            origin: Origin {
                stage: parsed(row, "stage")?,
                parent: row.try_get::<Option<uuid::Uuid>, _>("parent_id")?.map(BackboneId),
                run: row.try_get::<Option<uuid::Uuid>, _>("run_id")?.map(RunId),
                comparison: comparison.map(|comparison| comparison.0),
                artifacts: json(row, "artifacts")?,
            },
            created_at: row.try_get("created_at")?,
        }))
    }
}

/// Records an imported backbone; `created_at` is the database's clock.
pub async fn insert(pool: &PgPool, backbone: &Backbone) -> Result<Backbone, StoreError> {
    let mut connection = pool.acquire().await?;
    add(&mut connection, backbone).await
}

/// Records a pretrained backbone and finishes its run, both or neither. A worker whose lease was
/// lost gets [`StoreError::LeaseLost`] and publishes nothing.
pub async fn publish(
    pool: &PgPool,
    run: &Claimed,
    backbone: &Backbone,
) -> Result<Backbone, StoreError> {
    let mut transaction = pool.begin().await?;
    let comparison = backbone.origin.comparison.clone();
    let outcome = Outcome::Pretrain { backbone: Some(backbone.id), comparison };
    succeed(&mut transaction, run, &outcome).await?;
    let made = add(&mut transaction, backbone).await?;
    transaction.commit().await?;
    Ok(made)
}

/// Approves a candidate, or takes that back; the backbone as it is now, if there is one.
pub async fn set_stage(
    pool: &PgPool,
    id: BackboneId,
    stage: BackboneStage,
) -> Result<Option<Backbone>, StoreError> {
    sqlx::query("update backbones set stage = $2 where id = $1 and deleted_at is null")
        .bind(id.0)
        .bind(stage.as_str())
        .execute(pool)
        .await?;
    one(pool, id).await
}

async fn add(connection: &mut PgConnection, backbone: &Backbone) -> Result<Backbone, StoreError> {
    let origin = &backbone.origin;
    sqlx::query(
        "insert into backbones
             (id, name, architecture, preprocessing, embedding_size, parameters, weights_sha256,
              weights_size_bytes, onnx_sha256, source_sha256, source_url, license, notices, parity,
              stage, parent_id, run_id, artifacts)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)",
    )
    .bind(backbone.id.0)
    .bind(backbone.name.as_str())
    .bind(backbone.architecture.as_str())
    .bind(Json(&backbone.preprocessing))
    .bind(backbone.embedding_size as i32)
    .bind(backbone.parameters as i64)
    .bind(backbone.weights_sha256.to_string())
    .bind(backbone.weights_size_bytes as i64)
    .bind(backbone.onnx_sha256.to_string())
    .bind(backbone.source_sha256.to_string())
    .bind(&backbone.source_url)
    .bind(&backbone.license)
    .bind(Json(&backbone.notices))
    .bind(Json(&backbone.parity))
    .bind(origin.stage.as_str())
    .bind(origin.parent.map(|parent| parent.0))
    .bind(origin.run.map(|run| run.0))
    .bind(Json(&origin.artifacts))
    .execute(&mut *connection)
    .await?;
    let made = of_id(connection, backbone.id).await?;
    made.ok_or(StoreError::Database(sqlx::Error::RowNotFound))
}

/// The backbone of this id, unless it was deleted.
pub async fn one(pool: &PgPool, id: BackboneId) -> Result<Option<Backbone>, StoreError> {
    let mut query = sqlx::QueryBuilder::new(COLUMNS);
    query.push("where b.deleted_at is null and b.id = ").push_bind(id.0);
    let found: Option<Found> = query.build_query_as().fetch_optional(pool).await?;
    Ok(found.map(|found| found.0))
}

/// The backbone of this id, deleted or not: what a finished run started from.
pub async fn even_deleted(pool: &PgPool, id: BackboneId) -> Result<Option<Backbone>, StoreError> {
    of_id(pool, id).await
}

async fn of_id(
    executor: impl PgExecutor<'_>,
    id: BackboneId,
) -> Result<Option<Backbone>, StoreError> {
    let mut query = sqlx::QueryBuilder::new(COLUMNS);
    query.push("where b.id = ").push_bind(id.0);
    let found: Option<Found> = query.build_query_as().fetch_optional(executor).await?;
    Ok(found.map(|found| found.0))
}

/// All backbones, oldest first.
pub async fn list(pool: &PgPool) -> Result<Vec<Backbone>, StoreError> {
    let mut query = sqlx::QueryBuilder::new(COLUMNS);
    query.push("where b.deleted_at is null order by b.id");
    let found: Vec<Found> = query.build_query_as().fetch_all(pool).await?;
    Ok(found.into_iter().map(|found| found.0).collect())
}

/// The backbone with the same weights, name and preprocessing, if there is one.
pub async fn same(
    pool: &PgPool,
    name: &str,
    weights: &Sha256,
    preprocessing: &Preprocessing,
) -> Result<Option<Backbone>, StoreError> {
    let mut query = sqlx::QueryBuilder::new(COLUMNS);
    query
        .push("where b.deleted_at is null and b.name = ")
        .push_bind(name)
        .push(" and b.weights_sha256 = ")
        .push_bind(weights.to_string())
        .push(" and b.preprocessing = ")
        .push_bind(Json(preprocessing))
        .push(" order by b.id limit 1");
    let found: Option<Found> = query.build_query_as().fetch_optional(pool).await?;
    Ok(found.map(|found| found.0))
}
