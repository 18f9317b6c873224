//! The lease queue: the `runs` table seen by workers.
//!
//! A worker holds a run by a lease that it renews; the worker and its attempt together are the
//! fencing token. A worker that went silent loses its run to the next claim, and can neither report
//! nor publish any more.
//!
//! Clocks are set back now and then, by a battery that failed or by hand. So the order is that of a
//! sequence, a pause that ends further ahead than any is set is over, and so is a lease that ends
//! further ahead than it was given for.

use std::time::Duration;

use sqlx::types::Json;
use sqlx::{FromRow, PgConnection, PgPool, Row, postgres::PgRow};

use super::events::{append, publish};
use crate::domain::run::{EventBody, Outcome, Progress, Provenance, Replayed, Spec, Status};
use crate::domain::{RunId, WorkerId};
use crate::store::error::StoreError;
use crate::store::row::{json, parsed, small};

/// Attempts that a run has to get further than it ever was.
pub(super) const ATTEMPTS: i32 = 3;
/// The pause before a run that stumbled is tried again: the only one that is ever set.
const PAUSE: Duration = Duration::from_secs(5);

/// A run held by this worker.
#[derive(Debug, Clone, PartialEq)]
pub struct Claimed {
    /// The run.
    pub id: RunId,
    /// The recipe that is asked for.
    pub spec: Spec,
    /// The facts that it takes to repeat it.
    pub provenance: Provenance,
    /// The number of the attempt, from 1. One that was handed back is made again under the same
    /// number, so that it takes the worker too to tell two holders apart.
    pub attempt: u32,
    /// The worker that holds it.
    pub worker: WorkerId,
    /// Attempts allowed, as it was claimed; more once it gets further.
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

/// The news that a worker learns when it renews its lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beat {
    /// Go on.
    Continue,
    /// Somebody asked the run to stop.
    Cancel,
    /// The run is no longer this worker's.
    Lost,
}

/// By how much a time may lie further ahead than any that is set: transactions begin at different
/// times, and clocks are corrected by moments all the time.
const SLACK: Duration = Duration::from_secs(10);
/// The condition, in SQL, on which the worker of a running run went silent. A lease that ends further
/// ahead than it was given for, and than [`SLACK`], was given before the clock was set back.
const SILENT: &str = "(lease_until < now() or lease_until > now() + lease + interval '10 seconds')";

/// Leases the oldest run that is due, or whose worker went silent. `threads` is recorded with it.
pub async fn claim(
    pool: &PgPool,
    worker: WorkerId,
    lease: Duration,
    threads: usize,
) -> Result<Option<Claimed>, StoreError> {
    let mut transaction = pool.begin().await?;
    let claimed: Option<Claimed> = sqlx::query_as(sqlx::AssertSqlSafe(format!(
        "update runs set status = 'running', attempt = attempt + 1, error = null,
             lease_owner = $1, lease = $2, lease_until = now() + $2,
             started_at = coalesce(started_at, now()),
             progress = jsonb_set(progress, '{{stage}}', '\"preparing\"'),
             provenance = jsonb_set(provenance, '{{threads}}', to_jsonb($3::int))
         where id = (
             select id from runs
             where cancel_requested_at is null and (
                    (status = 'queued' and (run_after <= now() or run_after > now() + $4))
                 or (status = 'running' and attempt < max_attempts and {SILENT}))
             order by sequence
             for update skip locked limit 1)
         returning id, spec, provenance, attempt, max_attempts, lease_owner",
    )))
    .bind(worker.0)
    .bind(lease)
    .bind(threads as i32)
    .bind(PAUSE + SLACK)
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
        "update runs set lease = $4, lease_until = now() + $4
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

/// The end of an attempt that publishes nothing.
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

/// The status that an attempt which ends as `$4` leaves the run as, in SQL: one to be tried again is
/// cancelled when that was asked for, and fails when no attempt is left and this one (`$6`) counts.
const BECOMES: &str = "(case when $4 <> 'queued' then $4::run_status
                             when cancel_requested_at is not null then 'cancelled'
                             when $6 = 0 and attempt >= max_attempts then 'failed'
                             else 'queued' end)";

/// Ends an attempt that published nothing. Fails with [`StoreError::LeaseLost`] when it was not
/// this worker's to end. A run that was asked to stop is cancelled instead of being tried again,
/// for no worker takes such a run.
///
/// One statement decides, on the row as it is then: a cancel that comes at the same moment is either
/// seen here or finds what was made of the run here.
pub async fn end(pool: &PgPool, run: &Claimed, ending: &Ending) -> Result<(), StoreError> {
    let (status, error, spared) = match ending {
        Ending::Failed(error) => (Status::Failed, Some(error.as_str()), 0),
        Ending::Stumbled(error) => (Status::Queued, Some(error.as_str()), 0),
        Ending::Cancelled => (Status::Cancelled, None, 0),
        Ending::HandedBack => (Status::Queued, None, 1),
    };
    let mut transaction = pool.begin().await?;
    let ended = sqlx::query(sqlx::AssertSqlSafe(format!(
        "update runs set
             status = {BECOMES}, error = $5, attempt = attempt - $6,
             lease_owner = null, lease_until = null, lease = null,
             run_after = case when $5 is null then now() else now() + $7 end,
             finished_at = case when {BECOMES} = 'queued' then null else now() end,
             progress = case when {BECOMES} = 'queued'
                             then jsonb_set(progress, '{{stage}}', '\"queued\"') else progress end
         where id = $1 and attempt = $2 and lease_owner = $3 and status = 'running'
         returning status::text as status_word",
    )))
    .bind(run.id.0)
    .bind(run.attempt as i32)
    .bind(run.worker.0)
    .bind(status.as_str())
    .bind(error)
    .bind(spared)
    .bind(PAUSE)
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

/// Records that the next attempt need not do again this share of the run, from 0 to 1; whether the
/// run is still this attempt's. Where that is more than ever, attempts are counted anew from this
/// one: only those that get no further use them up.
pub async fn keep(pool: &PgPool, run: &Claimed, share: f64) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "update runs set kept_share = greatest(kept_share, $4),
             max_attempts = case when $4 > kept_share
                 then greatest(max_attempts, attempt + $5 - 1) else max_attempts end
         where id = $1 and attempt = $2 and lease_owner = $3 and status = 'running'",
    )
    .bind(run.id.0)
    .bind(run.attempt as i32)
    .bind(run.worker.0)
    .bind(share)
    .bind(ATTEMPTS)
    .execute(pool)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Adds something that whoever looks at the run should know, to its events as well; whether the run
/// is still this attempt's.
pub async fn notice(pool: &PgPool, run: &Claimed, message: &str) -> Result<bool, StoreError> {
    let mut transaction = pool.begin().await?;
    let held = hold(&mut transaction, run).await?;
    if held {
        sqlx::query("update runs set notices = notices || to_jsonb($2::text) where id = $1")
            .bind(run.id.0)
            .bind(message)
            .execute(&mut *transaction)
            .await?;
        let body = EventBody::Log { message: message.to_owned() };
        publish(&mut transaction, run.id, &body).await?;
    }
    transaction.commit().await?;
    Ok(held)
}

/// Marks the run as succeeded inside the transaction that publishes what it made, which the rows of
/// that name: of the outcome the findings are kept. Fails, so that nothing is published, when somebody
/// asked the run to stop in the meantime.
pub(in crate::store) async fn succeed(
    connection: &mut PgConnection,
    run: &Claimed,
    outcome: &Outcome,
) -> Result<(), StoreError> {
    let held = sqlx::query(
        "select cancel_requested_at is not null as cancel from runs
         where id = $1 and attempt = $2 and lease_owner = $3 and status = 'running' for update",
    )
    .bind(run.id.0)
    .bind(run.attempt as i32)
    .bind(run.worker.0)
    .fetch_optional(&mut *connection)
    .await?;
    // The row is locked from here on: a cancel that comes now finds a run that has succeeded.
    match held.map(|row| row.try_get("cancel")).transpose()? {
        None => return Err(StoreError::LeaseLost),
        Some(true) => return Err(StoreError::CancelRequested),
        Some(false) => {}
    }
    sqlx::query(
        "update runs set status = 'succeeded', outcome = $2::jsonb - '{model,backbone}'::text[],
             lease_owner = null, lease_until = null, lease = null, finished_at = now(), error = null,
             progress = jsonb_set(jsonb_set(progress, '{fraction}', '1'), '{eta_seconds}', '0')
         where id = $1",
    )
    .bind(run.id.0)
    .bind(Json(outcome))
    .execute(&mut *connection)
    .await?;
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
    succeed(&mut transaction, run, &Outcome::Replay { replayed: found.clone() }).await?;
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
    let reaped = sqlx::query(sqlx::AssertSqlSafe(format!(
        "update runs set
             status = case when cancel_requested_at is null then 'failed'::run_status
                           else 'cancelled' end,
             error = case when cancel_requested_at is null then
                 'its worker went silent in attempt ' || attempt || '; a run that gets no further '
                 'in {ATTEMPTS} attempts fails. It may need more memory than there is' end,
             lease_owner = null, lease_until = null, lease = null, finished_at = now()
         where id in (
             select id from runs
             where status = 'running' and {SILENT}
               and (cancel_requested_at is not null or attempt >= max_attempts)
             for update skip locked)
         returning id, status::text as status_word, error",
    )))
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
