//! The newest pair of graphs that a pretraining run matched, for people to look at.

use serde_json::Value;
use sqlx::types::Json;
use sqlx::{PgPool, Row};

use super::queue::{Claimed, hold};
use crate::domain::RunId;
use crate::store::error::StoreError;
use crate::store::row::count;

/// Keeps a pair in place of the one before; whether the run is still this attempt's.
pub async fn put(
    pool: &PgPool,
    run: &Claimed,
    step: u64,
    body: &Value,
) -> Result<bool, StoreError> {
    let mut transaction = pool.begin().await?;
    let held = hold(&mut transaction, run).await?;
    if held {
        sqlx::query(
            "insert into matched_pairs (run_id, step, body) values ($1, $2, $3)
             on conflict (run_id) do update
             set step = excluded.step, body = excluded.body, shown_at = now()",
        )
        .bind(run.id.0)
        .bind(step as i64)
        .bind(Json(body))
        .execute(&mut *transaction)
        .await?;
    }
    transaction.commit().await?;
    Ok(held)
}

/// The newest pair of a run with its step, if one was shown.
pub async fn get(pool: &PgPool, run: RunId) -> Result<Option<(u64, Value)>, StoreError> {
    let row = sqlx::query("select step, body from matched_pairs where run_id = $1")
        .bind(run.0)
        .fetch_optional(pool)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let body: Json<Value> = row.try_get("body")?;
    Ok(Some((count(&row, "step")?, body.0)))
}
