//! A run's events and metric curves: append-only, in order, and told to whoever listens.

use std::collections::BTreeMap;

use sqlx::postgres::{PgListener, PgPoolOptions};
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool, Row};
use tokio::sync::broadcast;

use crate::domain::RunId;
use crate::domain::run::{Event, EventBody, Status};
use crate::store::error::StoreError;
use crate::store::row::{json, parsed, small};

/// Changes that a slow listener may fall behind before it has to look for itself.
const BACKLOG: usize = 1024;

/// Appends an event in the caller's transaction.
pub(super) async fn append(
    connection: &mut PgConnection,
    run: RunId,
    body: &EventBody,
) -> Result<(), StoreError> {
    // The row lock makes the sequence gapless and in order of commit.
    sqlx::query("select 1 from runs where id = $1 for update")
        .bind(run.0)
        .execute(&mut *connection)
        .await?;
    sqlx::query(
        "insert into run_events (run_id, sequence, attempt, body) values ($1,
             (select coalesce(max(sequence), 0) + 1 from run_events where run_id = $1),
             (select attempt from runs where id = $1), $2)",
    )
    .bind(run.0)
    .bind(Json(body))
    .execute(&mut *connection)
    .await?;
    Ok(())
}

/// Appends an event in the caller's transaction and tells the listeners when it commits; a metric
/// also joins its curve. A point that a resumed attempt computes again replaces its equal and
/// whatever an earlier attempt had beyond it: a curve goes on where its attempt does.
pub(super) async fn publish(
    connection: &mut PgConnection,
    run: RunId,
    body: &EventBody,
) -> Result<(), StoreError> {
    append(&mut *connection, run, body).await?;
    if let EventBody::Metric { name, step, value } = body {
        sqlx::query("delete from run_metrics where run_id = $1 and name = $2 and step > $3")
            .bind(run.0)
            .bind(name)
            .bind(*step as i64)
            .execute(&mut *connection)
            .await?;
        sqlx::query(
            "insert into run_metrics (run_id, name, step, value) values ($1, $2, $3, $4)
             on conflict (run_id, name, step) do update set value = excluded.value",
        )
        .bind(run.0)
        .bind(name)
        .bind(*step as i64)
        .bind(value)
        .execute(&mut *connection)
        .await?;
    }
    sqlx::query("select pg_notify('runs', $1)").bind(run.to_string()).execute(connection).await?;
    Ok(())
}

/// The events of a run after `sequence`, at most `limit`.
pub async fn since(
    pool: &PgPool,
    run: RunId,
    sequence: i64,
    limit: u32,
) -> Result<Vec<Event>, StoreError> {
    let rows = sqlx::query(
        "select sequence, at, attempt, body from run_events where run_id = $1 and sequence > $2
         order by sequence limit $3",
    )
    .bind(run.0)
    .bind(sequence)
    .bind(i64::from(limit))
    .fetch_all(pool)
    .await?;
    let event = |row: &sqlx::postgres::PgRow| {
        Ok(Event {
            sequence: row.try_get("sequence")?,
            at: row.try_get("at")?,
            attempt: small(row, "attempt")?,
            body: json(row, "body")?,
        })
    };
    rows.iter().map(event).collect()
}

/// The statuses that a run went through, in order. An attempt that ended without a word is followed
/// by another `running` at once.
pub async fn statuses(pool: &PgPool, run: RunId) -> Result<Vec<Status>, StoreError> {
    let rows = sqlx::query(
        "select body->>'status' as status from run_events
         where run_id = $1 and body->>'event' = 'status' order by sequence",
    )
    .bind(run.0)
    .fetch_all(pool)
    .await?;
    Ok(rows.iter().map(|row| parsed(row, "status")).collect::<sqlx::Result<_>>()?)
}

/// The curves of a run: for each name its points `(step, value)` in order.
pub async fn curves(
    pool: &PgPool,
    run: RunId,
) -> Result<BTreeMap<String, Vec<(u64, f64)>>, StoreError> {
    let rows: Vec<(String, i64, f64)> = sqlx::query_as(
        "select name, step, value from run_metrics where run_id = $1 order by name, step",
    )
    .bind(run.0)
    .fetch_all(pool)
    .await?;
    let mut curves: BTreeMap<String, Vec<(u64, f64)>> = BTreeMap::new();
    for (name, step, value) in rows {
        curves.entry(name).or_default().push((step.unsigned_abs(), value));
    }
    Ok(curves)
}

/// Tells which runs change, from one connection for the whole process, beside those of the pool.
/// Whoever waits on it must also look now and then: a change during a lost connection is not told.
pub fn listen(pool: PgPool) -> broadcast::Sender<RunId> {
    let (sender, _) = broadcast::channel(BACKLOG);
    let changes = sender.clone();
    tokio::spawn(async move {
        while !pool.is_closed() {
            if let Err(error) = forward(&pool, &changes).await {
                tracing::debug!(%error, "the change listener reconnects");
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
        }
    });
    sender
}

async fn forward(pool: &PgPool, changes: &broadcast::Sender<RunId>) -> Result<(), StoreError> {
    // Not one of the pool's: it is held for good, and the pool may have no other.
    let own = PgPoolOptions::new()
        .max_connections(1)
        .max_lifetime(None)
        .idle_timeout(None)
        .connect_with((*pool.connect_options()).clone())
        .await?;
    let mut listener = PgListener::connect_with(&own).await?;
    listener.listen("runs").await?;
    let mut closing = pool.close_event();
    loop {
        let change = tokio::select! {
            change = listener.recv() => change?,
            () = &mut closing => return Ok(()),
        };
        if let Ok(run) = change.payload().parse() {
            // Nobody listening is fine.
            let _ = changes.send(run);
        }
    }
}
