//! Rows of imported backbones.

use sqlx::types::Json;
use sqlx::{FromRow, PgPool, Row, postgres::PgRow};

use super::StoreError;
use super::row::{count, json, name, parsed, small};
use crate::domain::{Backbone, BackboneId, Preprocessing, Sha256};

/// A backbone as its row gives it.
struct Found(Backbone);

impl FromRow<'_, PgRow> for Found {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
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
            created_at: row.try_get("created_at")?,
        }))
    }
}

/// Records an imported backbone; `created_at` is the database's clock.
pub async fn insert(pool: &PgPool, backbone: &Backbone) -> Result<Backbone, StoreError> {
    let found: Found = sqlx::query_as(
        "insert into backbones
             (id, name, architecture, preprocessing, embedding_size, parameters, weights_sha256,
              weights_size_bytes, onnx_sha256, source_sha256, source_url, license, notices, parity)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
         returning *",
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
    .fetch_one(pool)
    .await?;
    Ok(found.0)
}

/// The backbone of this id, unless it was deleted.
pub async fn one(pool: &PgPool, id: BackboneId) -> Result<Option<Backbone>, StoreError> {
    let found: Option<Found> =
        sqlx::query_as("select * from backbones where id = $1 and deleted_at is null")
            .bind(id.0)
            .fetch_optional(pool)
            .await?;
    Ok(found.map(|found| found.0))
}

/// The backbone of this id, deleted or not: what a finished run started from.
pub async fn even_deleted(pool: &PgPool, id: BackboneId) -> Result<Option<Backbone>, StoreError> {
    let found: Option<Found> = sqlx::query_as("select * from backbones where id = $1")
        .bind(id.0)
        .fetch_optional(pool)
        .await?;
    Ok(found.map(|found| found.0))
}

/// All backbones, oldest first.
pub async fn list(pool: &PgPool) -> Result<Vec<Backbone>, StoreError> {
    let found: Vec<Found> =
        sqlx::query_as("select * from backbones where deleted_at is null order by id")
            .fetch_all(pool)
            .await?;
    Ok(found.into_iter().map(|found| found.0).collect())
}

/// The backbone with the same weights, name and preprocessing, if there is one.
pub async fn same(
    pool: &PgPool,
    name: &str,
    weights: &Sha256,
    preprocessing: &Preprocessing,
) -> Result<Option<Backbone>, StoreError> {
    let found: Option<Found> = sqlx::query_as(
        "select * from backbones
         where name = $1 and weights_sha256 = $2 and preprocessing = $3 and deleted_at is null
         order by id limit 1",
    )
    .bind(name)
    .bind(weights.to_string())
    .bind(Json(preprocessing))
    .fetch_optional(pool)
    .await?;
    Ok(found.map(|found| found.0))
}

/// Deletes a backbone that no unfinished run needs; whether there was one.
pub async fn delete(pool: &PgPool, id: BackboneId) -> Result<bool, StoreError> {
    let mut transaction = pool.begin().await?;
    let waiting: i64 = sqlx::query(
        "select count(*) as waiting from runs
         where backbone_id = $1 and status in ('queued', 'running')",
    )
    .bind(id.0)
    .fetch_one(&mut *transaction)
    .await?
    .try_get("waiting")?;
    if waiting > 0 {
        return Err(StoreError::InUse {
            what: "the backbone",
            by: format!("{waiting} queued or running run(s)"),
        });
    }
    let done =
        sqlx::query("update backbones set deleted_at = now() where id = $1 and deleted_at is null")
            .bind(id.0)
            .execute(&mut *transaction)
            .await?;
    transaction.commit().await?;
    Ok(done.rows_affected() > 0)
}
