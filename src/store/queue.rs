//! The lease queue: the `runs` table seen by workers.
//!
//! A worker holds a run by a lease that it renews; the worker and its attempt together are the
//! fencing token. A worker that went silent loses its run to the next claim, and can neither report
//! nor publish any more.

use std::time::Duration;

use sqlx::types::Json;
use sqlx::{FromRow, PgConnection, PgPool, Row, postgres::PgRow};

use super::StoreError;
use super::events::{append, publish};
use super::row::{json, parsed, small};
use crate::domain::evaluation::Evaluation;
use crate::domain::run::{EventBody, Progress, Provenance, Replayed, Spec, Status};
use crate::domain::{RunId, WorkerId};

/// A run held by this worker.
#[derive(Debug, Clone, PartialEq)]
pub struct Claimed {
    /// The run.
    pub id: RunId,
    /// What is asked.
    pub spec: Spec,
    /// What it takes to repeat it.
    pub provenance: Provenance,
    /// Which attempt it is, from 1. One that was handed back is made again under the same number,
    /// so that it takes the worker too to tell two holders apart.
    pub attempt: u32,
    /// The worker that holds it.
    pub worker: WorkerId,
    /// Attempts allowed.
    pub max_attempts: u32,
}

impl FromRow<'_, PgRow> for Claimed {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: RunId(row.try_get("id")?),
            spec: json(row, "spec")?,
            provenance: json(row, "provenance")?,
            attempt: small(row, "attempt")?,
            worker: WorkerId(row.try_get("lease_owner")?),
            max_attempts: small(row, "max_attempts")?,
        })
    }
}

/// What a worker learns when it renews its lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beat {
    /// Go on.
    Continue,
    /// Somebody asked the run to stop.
    Cancel,
    /// The run is no longer this worker's.
    Lost,
}

/// Leases the oldest run that is due, or whose worker went silent. `threads` is recorded with it.
pub async fn claim(
    pool: &PgPool,
    worker: WorkerId,
    lease: Duration,
    threads: usize,
) -> Result<Option<Claimed>, StoreError> {
    let mut transaction = pool.begin().await?;
    let claimed: Option<Claimed> = sqlx::query_as(
        "update runs set status = 'running', attempt = attempt + 1, error = null,
             lease_owner = $1, lease_until = now() + $2,
             started_at = coalesce(started_at, now()),
             progress = jsonb_set(progress, '{stage}', '\"preparing\"'),
             provenance = jsonb_set(provenance, '{threads}', to_jsonb($3::int))
         where id = (
             select id from runs
             where cancel_requested_at is null and (
                    (status = 'queued' and run_after <= now())
                 or (status = 'running' and lease_until < now() and attempt < max_attempts))
             order by created_at, id
             for update skip locked limit 1)
         returning id, spec, provenance, attempt, max_attempts, lease_owner",
    )
    .bind(worker.0)
    .bind(lease)
    .bind(threads as i32)
    .fetch_optional(&mut *transaction)
    .await?;
    if let Some(claimed) = &claimed {
        let detail = Some(format!("attempt {} of {}", claimed.attempt, claimed.max_attempts));
        append(
            &mut transaction,
            claimed.id,
            &EventBody::Status { status: Status::Running, detail },
        )
        .await?;
    }
    transaction.commit().await?;
    Ok(claimed)
}

/// Renews the lease.
pub async fn beat(pool: &PgPool, run: &Claimed, lease: Duration) -> Result<Beat, StoreError> {
    let row = sqlx::query(
        "update runs set lease_until = now() + $4
         where id = $1 and attempt = $2 and lease_owner = $3 and status = 'running'
         returning cancel_requested_at is not null as cancel",
    )
    .bind(run.id.0)
    .bind(run.attempt as i32)
    .bind(run.worker.0)
    .bind(lease)
    .fetch_optional(pool)
    .await?;
    Ok(match row {
        None => Beat::Lost,
        Some(row) if row.try_get("cancel")? => Beat::Cancel,
        Some(_) => Beat::Continue,
    })
}

/// Reports progress; whether the run is still this attempt's.
pub async fn report(pool: &PgPool, run: &Claimed, progress: &Progress) -> Result<bool, StoreError> {
    let mut transaction = pool.begin().await?;
    let done = sqlx::query(
        "update runs set progress = $4
         where id = $1 and attempt = $2 and lease_owner = $3 and status = 'running'",
    )
    .bind(run.id.0)
    .bind(run.attempt as i32)
    .bind(run.worker.0)
    .bind(Json(progress))
    .execute(&mut *transaction)
    .await?;
    if done.rows_affected() > 0 {
        append(&mut transaction, run.id, &EventBody::Progress { progress: progress.clone() })
            .await?;
    }
    transaction.commit().await?;
    Ok(done.rows_affected() > 0)
}

/// Publishes an event of the run's work; whether the run is still this attempt's.
pub async fn tell(pool: &PgPool, run: &Claimed, body: &EventBody) -> Result<bool, StoreError> {
    let mut transaction = pool.begin().await?;
    let held = hold(&mut transaction, run).await?;
    if held {
        publish(&mut transaction, run.id, body).await?;
    }
    transaction.commit().await?;
    Ok(held)
}

/// Locks the run's row until the transaction ends, if the run is still this attempt's; whether it
/// is. Nobody takes it over in the meantime.
pub(super) async fn hold(connection: &mut PgConnection, run: &Claimed) -> Result<bool, StoreError> {
    let row = sqlx::query(
        "select 1 from runs
         where id = $1 and attempt = $2 and lease_owner = $3 and status = 'running' for update",
    )
    .bind(run.id.0)
    .bind(run.attempt as i32)
    .bind(run.worker.0)
    .fetch_optional(connection)
    .await?;
    Ok(row.is_some())
}

/// How an attempt ended without publishing anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// Another attempt would fail alike.
    Failed(String),
    /// Another attempt may succeed: queued again after a pause, or failed when none is left.
    Stumbled(String),
    /// Somebody asked for it.
    Cancelled,
    /// The worker is going away; the attempt does not count.
    HandedBack,
}

/// Ends an attempt that published nothing. Fails with [`StoreError::LeaseLost`] when it was not
/// this worker's to end. A run that was asked to stop is cancelled instead of being queued again,
/// for no worker takes such a run.
pub async fn end(pool: &PgPool, run: &Claimed, ending: &Ending) -> Result<(), StoreError> {
    let again = run.attempt < run.max_attempts;
    let (status, error, spared) = match ending {
        Ending::Failed(error) => (Status::Failed, Some(error.as_str()), 0),
        Ending::Stumbled(error) if again => (Status::Queued, Some(error.as_str()), 0),
        Ending::Stumbled(error) => (Status::Failed, Some(error.as_str()), 0),
        Ending::Cancelled => (Status::Cancelled, None, 0),
        Ending::HandedBack => (Status::Queued, None, 1),
    };
    let mut transaction = pool.begin().await?;
    let ended = sqlx::query(
        "update runs set
             status = case when $4 = 'queued' and cancel_requested_at is not null
                           then 'cancelled' else $4::run_status end,
             error = $5, lease_owner = null, lease_until = null, attempt = attempt - $6,
             run_after = case when $5 is null then now() else now() + interval '5 seconds' end,
             finished_at = case when $4 = 'queued' and cancel_requested_at is null
                                then null else now() end,
             progress = case when $4 = 'queued' then jsonb_set(progress, '{stage}', '\"queued\"')
                             else progress end
         where id = $1 and attempt = $2 and lease_owner = $3 and status = 'running'
         returning status::text as status_word",
    )
    .bind(run.id.0)
    .bind(run.attempt as i32)
    .bind(run.worker.0)
    .bind(status.as_str())
    .bind(error)
    .bind(spared)
    .fetch_optional(&mut *transaction)
    .await?;
    let Some(ended) = ended else {
        return Err(StoreError::LeaseLost);
    };
    let detail = match ending {
        Ending::Failed(error) | Ending::Stumbled(error) => Some(error.clone()),
        Ending::Cancelled => None,
        Ending::HandedBack => Some("the worker is shutting down".to_owned()),
    };
    let status = parsed(&ended, "status_word")?;
    append(&mut transaction, run.id, &EventBody::Status { status, detail }).await?;
    transaction.commit().await?;
    Ok(())
}

/// What a finished run found, beside what it published.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Findings<'a> {
    pub(super) evaluation: Option<&'a Evaluation>,
    pub(super) replayed: Option<&'a Replayed>,
}

/// Marks the run as succeeded inside the transaction that publishes what it made.
pub(super) async fn succeed(
    connection: &mut PgConnection,
    run: &Claimed,
    findings: Findings<'_>,
) -> Result<(), StoreError> {
    let done = sqlx::query(
        "update runs set status = 'succeeded', evaluation = $4, replayed = $5, lease_owner = null,
             lease_until = null, finished_at = now(), error = null,
             progress = jsonb_set(jsonb_set(progress, '{fraction}', '1'), '{eta_seconds}', '0')
         where id = $1 and attempt = $2 and lease_owner = $3 and status = 'running'",
    )
    .bind(run.id.0)
    .bind(run.attempt as i32)
    .bind(run.worker.0)
    .bind(findings.evaluation.map(Json))
    .bind(findings.replayed.map(Json))
    .execute(&mut *connection)
    .await?;
    if done.rows_affected() == 0 {
        return Err(StoreError::LeaseLost);
    }
    append(connection, run.id, &EventBody::Status { status: Status::Succeeded, detail: None }).await
}

/// Records the micro-batch that a run computes with, so that every further attempt and every replay
/// adds up in the same order; whether the run is still this attempt's.
pub async fn settle(pool: &PgPool, run: &Claimed, micro_batch: u32) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "update runs set provenance = jsonb_set(provenance, '{micro_batch}', to_jsonb($4::int))
         where id = $1 and attempt = $2 and lease_owner = $3 and status = 'running'",
    )
    .bind(run.id.0)
    .bind(run.attempt as i32)
    .bind(run.worker.0)
    .bind(micro_batch as i32)
    .execute(pool)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Finishes a replay with what it found. Fails with [`StoreError::LeaseLost`] when the run was not
/// this worker's any more.
pub async fn replayed(pool: &PgPool, run: &Claimed, found: &Replayed) -> Result<(), StoreError> {
    let mut transaction = pool.begin().await?;
    let findings = Findings { replayed: Some(found), ..Findings::default() };
    succeed(&mut transaction, run, findings).await?;
    transaction.commit().await?;
    Ok(())
}

/// Lets go of what a worker held that is known to be dead, so that nobody waits for its lease.
pub async fn orphan(pool: &PgPool, worker: WorkerId) -> Result<(), StoreError> {
    sqlx::query(
        "update runs set lease_until = now() - interval '1 second'
         where lease_owner = $1 and status = 'running'",
    )
    .bind(worker.0)
    .execute(pool)
    .await?;
    Ok(())
}

/// Ends silent runs that are out of attempts or were asked to stop; how many.
pub async fn reap(pool: &PgPool) -> Result<u64, StoreError> {
    let mut transaction = pool.begin().await?;
    let reaped = sqlx::query(
        "update runs set
             status = case when cancel_requested_at is null then 'failed'::run_status
                           else 'cancelled' end,
             error = case when cancel_requested_at is null then
                 'its worker went silent in each of ' || attempt || ' attempts; it may need more '
                 'memory than there is' end,
             lease_owner = null, lease_until = null, finished_at = now()
         where id in (
             select id from runs
             where status = 'running' and lease_until < now()
               and (cancel_requested_at is not null or attempt >= max_attempts)
             for update skip locked)
         returning id, status::text as status_word, error",
    )
    .fetch_all(&mut *transaction)
    .await?;
    for row in &reaped {
        let status = parsed(row, "status_word")?;
        let body = EventBody::Status { status, detail: row.try_get("error")? };
        append(&mut transaction, RunId(row.try_get("id")?), &body).await?;
    }
    transaction.commit().await?;
    Ok(reaped.len() as u64)
}
