//! Rows of runs as they are created, shown and cancelled.

use sqlx::types::Json;
use sqlx::{FromRow, PgPool, Row, postgres::PgRow};

use super::events::append;
use super::queue::ATTEMPTS;
use crate::domain::run::{EventBody, Outcome, Provenance, Run, Spec, Status};
use crate::domain::{BackboneId, KeyId, ModelId, RunId, Sha256, VersionId};
use crate::store::error::StoreError;
use crate::store::row::{count, is_gone, json, parsed, small};

/// The columns that every query of runs selects.
const COLUMNS: &str = "select r.*, r.status::text as status_word, m.id as model_id,
         case when b.deleted_at is null then b.id end as published_backbone_id,
         case when r.status = 'queued' then
             (select count(*) from runs q
              where q.status = 'queued' and q.sequence < r.sequence)
         end as queue_position
     from runs r left join models m on m.run_id = r.id and m.deleted_at is null
         left join backbones b on b.run_id = r.id ";

/// A run as its row gives it.
struct Found(Run);

impl FromRow<'_, PgRow> for Found {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let cancel: Option<time::OffsetDateTime> = row.try_get("cancel_requested_at")?;
        let position: Option<i64> = row.try_get("queue_position")?;
        Ok(Self(Run {
            id: RunId(row.try_get("id")?),
            spec: json(row, "spec")?,
            provenance: json(row, "provenance")?,
            status: parsed(row, "status_word")?,
            progress: json(row, "progress")?,
            queue_position: position.map(i64::unsigned_abs),
            attempt: small(row, "attempt")?,
            max_attempts: small(row, "max_attempts")?,
            cancel_requested: cancel.is_some(),
            error: row.try_get("error")?,
            notices: json(row, "notices")?,
            outcome: outcome(row)?,
            created_at: row.try_get("created_at")?,
            started_at: row.try_get("started_at")?,
            finished_at: row.try_get("finished_at")?,
        }))
    }
}

/// The findings of a run, with what it published as far as that is still there.
fn outcome(row: &PgRow) -> sqlx::Result<Option<Outcome>> {
    let found: Option<Json<Outcome>> = row.try_get("outcome")?;
    let Some(Json(mut outcome)) = found else { return Ok(None) };
    match &mut outcome {
        Outcome::Finetune { model, .. } => {
            *model = row.try_get::<Option<uuid::Uuid>, _>("model_id")?.map(ModelId);
        }
        Outcome::Pretrain { backbone, .. } => {
            let id: Option<uuid::Uuid> = row.try_get("published_backbone_id")?;
            *backbone = id.map(BackboneId);
        }
        Outcome::Replay { .. } => {}
    }
    Ok(Some(outcome))
}

/// A run to be queued.
#[derive(Debug, Clone)]
pub struct NewRun<'a> {
    /// The recipe that is asked for.
    pub spec: &'a Spec,
    /// The facts that it takes to repeat it.
    pub provenance: &'a Provenance,
    /// The version it learns from.
    pub dataset_version: VersionId,
    /// The backbone it starts from; none from random weights.
    pub backbone: Option<BackboneId>,
    /// By what the caller tells that it asks again: that queues one run.
    pub once: Option<&'a Once>,
}

/// By what a caller tells that it asks for the same again (`Idempotency-Key`). The key of one caller
/// is nothing to another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Once {
    /// The caller's API key; none while no key exists.
    pub caller: Option<KeyId>,
    /// The text that the caller chose.
    pub key: String,
    /// The digest of the body that came with it.
    pub body: Sha256,
}

/// Queues a run; asked for again, the run that was queued then.
pub async fn insert(pool: &PgPool, run: &NewRun<'_>) -> Result<Run, StoreError> {
    let id = RunId::new();
    let mut transaction = pool.begin().await?;
    let made = sqlx::query(
        "insert into runs
             (id, kind, spec, provenance, dataset_version_id, backbone_id,
              idempotency_key, idempotency_caller, idempotency_body)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9) on conflict do nothing",
    )
    .bind(id.0)
    .bind(run.spec.kind())
    .bind(Json(run.spec))
    .bind(Json(run.provenance))
    .bind(run.dataset_version.0)
    .bind(run.backbone.map(|backbone| backbone.0))
    .bind(run.once.map(|once| once.key.as_str()))
    .bind(run.once.and_then(|once| once.caller).map(|caller| caller.0))
    .bind(run.once.map(|once| once.body.as_bytes().as_slice()))
    .execute(&mut *transaction)
    .await;
    let made = match made {
        Err(error) if is_gone(&error) => return Err(StoreError::Gone("the dataset version")),
        made => made?,
    };
    if made.rows_affected() == 0 {
        transaction.rollback().await?;
        let before = match run.once {
            Some(once) => asked_before(pool, once).await?,
            None => None,
        };
        return before.ok_or(StoreError::Database(sqlx::Error::RowNotFound));
    }
    append(&mut transaction, id, &EventBody::Status { status: Status::Queued, detail: None })
        .await?;
    transaction.commit().await?;
    existing(pool, id).await
}

/// The run of this id.
pub async fn one(pool: &PgPool, id: RunId) -> Result<Option<Run>, StoreError> {
    let mut query = sqlx::QueryBuilder::new(COLUMNS);
    query.push("where r.id = ").push_bind(id.0);
    let found: Option<Found> = query.build_query_as().fetch_optional(pool).await?;
    Ok(found.map(|found| found.0))
}

/// The run that was queued when the caller asked for the same before; an error when it asked for
/// something else then.
pub async fn asked_before(pool: &PgPool, once: &Once) -> Result<Option<Run>, StoreError> {
    let before: Option<(uuid::Uuid, Option<Vec<u8>>)> = sqlx::query_as(
        "select id, idempotency_body from runs
         where idempotency_key = $1 and idempotency_caller is not distinct from $2",
    )
    .bind(&once.key)
    .bind(once.caller.map(|caller| caller.0))
    .fetch_optional(pool)
    .await?;
    match before {
        None => Ok(None),
        Some((id, Some(body))) if body == once.body.as_bytes() => one(pool, RunId(id)).await,
        Some(_) => Err(StoreError::KeyReused),
    }
}

/// The runs to list.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// Only runs in this status.
    pub status: Option<Status>,
    /// Only runs older than this one.
    pub before: Option<RunId>,
    /// At most this many.
    pub limit: u32,
}

/// Runs, the one that was queued last first.
pub async fn list(pool: &PgPool, page: &Page) -> Result<Vec<Run>, StoreError> {
    let mut query = sqlx::QueryBuilder::new(COLUMNS);
    query
        .push("where (")
        .push_bind(page.status.map(Status::as_str))
        .push("::run_status is null or r.status = ")
        .push_bind(page.status.map(Status::as_str))
        .push("::run_status) and (")
        .push_bind(page.before.map(|before| before.0))
        .push("::uuid is null or r.sequence < (select sequence from runs where id = ")
        .push_bind(page.before.map(|before| before.0))
        .push(")) order by r.sequence desc limit ")
        .push_bind(i64::from(page.limit));
    let found: Vec<Found> = query.build_query_as().fetch_all(pool).await?;
    Ok(found.into_iter().map(|found| found.0).collect())
}

/// The number of runs that wait for a worker.
pub async fn queued(pool: &PgPool) -> Result<u64, StoreError> {
    let row = sqlx::query("select count(*) as queued from runs where status = 'queued'")
        .fetch_one(pool)
        .await?;
    Ok(count(&row, "queued")?)
}

/// Asks a run to stop: a queued one is cancelled at once, a running one at its worker's next beat.
/// The run as it is now.
///
/// One statement sees to both: between two of them a worker could take a queued run or hand a running
/// one back, and neither would find it.
pub async fn cancel(pool: &PgPool, id: RunId) -> Result<Option<Run>, StoreError> {
    let mut transaction = pool.begin().await?;
    let asked = sqlx::query(
        "update runs set
             cancel_requested_at = coalesce(cancel_requested_at, now()),
             finished_at = case when status = 'queued' then now() end,
             status = case when status = 'queued' then 'cancelled' else status end
         where id = $1 and status in ('queued', 'running')
         returning status::text as status_word",
    )
    .bind(id.0)
    .fetch_optional(&mut *transaction)
    .await?;
    let status: Option<Status> = asked.map(|row| parsed(&row, "status_word")).transpose()?;
    if status == Some(Status::Cancelled) {
        let detail = Some("cancelled while it was queued".to_owned());
        append(&mut transaction, id, &EventBody::Status { status: Status::Cancelled, detail })
            .await?;
    }
    transaction.commit().await?;
    one(pool, id).await
}

/// Queues a failed or cancelled run again, with fresh attempts and its checkpoint kept; whether it
/// was in a state to be.
pub async fn retry(pool: &PgPool, id: RunId) -> Result<bool, StoreError> {
    let mut transaction = pool.begin().await?;
    let done = sqlx::query(
        "update runs set status = 'queued', max_attempts = attempt + $2, run_after = now(),
             cancel_requested_at = null, finished_at = null, error = null,
             progress = jsonb_set(progress, '{stage}', '\"queued\"')
         where id = $1 and status in ('failed', 'cancelled')",
    )
    .bind(id.0)
    .bind(ATTEMPTS)
    .execute(&mut *transaction)
    .await?;
    if done.rows_affected() > 0 {
        let detail = Some("queued again".to_owned());
        append(&mut transaction, id, &EventBody::Status { status: Status::Queued, detail }).await?;
    }
    transaction.commit().await?;
    Ok(done.rows_affected() > 0)
}

async fn existing(pool: &PgPool, id: RunId) -> Result<Run, StoreError> {
    one(pool, id).await?.ok_or(StoreError::Database(sqlx::Error::RowNotFound))
}
