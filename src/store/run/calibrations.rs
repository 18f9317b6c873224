//! The cost of training steps, by the machine that measured it: the server and its workers share it.

use sqlx::PgPool;
use sqlx::types::Json;

use crate::domain::forecast::{Calibration, Trial};
use crate::store::error::StoreError;

/// The cost that was measured on a machine before.
pub async fn get(
    pool: &PgPool,
    machine: &str,
    trial: &Trial,
) -> Result<Option<Calibration>, StoreError> {
    let found: Option<(Json<Calibration>,)> =
        sqlx::query_as("select cost from calibrations where machine = $1 and trial = $2")
            .bind(machine)
            .bind(Json(trial))
            .fetch_optional(pool)
            .await?;
    Ok(found.map(|(cost,)| cost.0))
}

/// Keeps what was measured on a machine.
pub async fn put(
    pool: &PgPool,
    machine: &str,
    trial: &Trial,
    cost: &Calibration,
) -> Result<(), StoreError> {
    sqlx::query(
        "insert into calibrations (machine, trial, cost) values ($1, $2, $3)
         on conflict (machine, trial) do update
             set cost = excluded.cost, measured_at = now()",
    )
    .bind(machine)
    .bind(Json(trial))
    .bind(Json(cost))
    .execute(pool)
    .await?;
    Ok(())
}
