//! The rows that name blobs, and the lock between those who add such rows and those who remove blobs
//! that no row names.
//!
//! Whoever adds a row holds the lock with others, and sees under it that the blob is there; whoever
//! removes blobs holds it alone, and sees under it that no row names them. Neither can slip in
//! between the other's look and deed.

use std::collections::HashMap;

use sqlx::{AssertSqlSafe, PgConnection, PgPool, Row};

use super::blobs::Content;
use crate::domain::Sha256;
use crate::store::Store;
use crate::store::error::StoreError;
use crate::store::row::parsed;

/// Names the lock.
const LOCK: i64 = 0x6c76_6d65_645f_6f72;

/// Rows that name blobs.
struct Naming {
    /// The name, as an expression.
    blob: &'static str,
    /// The table that the rows are in.
    from: &'static str,
    /// The condition on the rows that count.
    only: &'static str,
    /// The name of the blob for people, as an expression.
    what: &'static str,
}

/// Every place where a row names a blob; the sweep and `lvmed check` know no other.
const NAMINGS: [Naming; 7] = [
    Naming {
        blob: "i.blob",
        from: "images i",
        only: "true",
        what: "'image ' || i.id || ' of dataset '
               || (select to_json(d.name)::text from datasets d where d.id = i.dataset_id)",
    },
    Naming {
        blob: "b.weights_sha256",
        from: "backbones b",
        only: "b.deleted_at is null",
        what: "'weights of backbone ' || to_json(b.name)",
    },
    Naming {
        blob: "b.onnx_sha256",
        from: "backbones b",
        only: "b.deleted_at is null",
        what: "'ONNX file of backbone ' || to_json(b.name)",
    },
    Naming {
        blob: "f->>'sha256'",
        from: "backbones b cross join jsonb_array_elements(b.artifacts) f",
        only: "b.deleted_at is null",
        what: "(f->>'name') || ' of backbone ' || to_json(b.name)",
    },
    Naming {
        blob: "a.sha256",
        from: "artifacts a join models m on m.id = a.model_id",
        only: "m.deleted_at is null",
        what: "a.name || ' of model ' || to_json(m.name) || ' version ' || m.version",
    },
    Naming {
        blob: "c.blob",
        from: "checkpoints c",
        only: "true",
        what: "'newest checkpoint of run ' || c.run_id",
    },
    Naming {
        blob: "c.previous",
        from: "checkpoints c",
        only: "c.previous is not null",
        what: "'earlier checkpoint of run ' || c.run_id",
    },
];

/// Until the transaction ends, no blob is removed.
pub(in crate::store) async fn hold(connection: &mut PgConnection) -> Result<(), StoreError> {
    sqlx::query("select pg_advisory_xact_lock_shared($1)").bind(LOCK).execute(connection).await?;
    Ok(())
}

/// Until the transaction ends, no row that names a blob is added.
pub(super) async fn hold_alone(connection: &mut PgConnection) -> Result<(), StoreError> {
    sqlx::query("select pg_advisory_xact_lock($1)").bind(LOCK).execute(connection).await?;
    Ok(())
}

/// Those of these blobs that no row names.
pub(super) async fn unnamed(
    connection: &mut PgConnection,
    blobs: &[Sha256],
) -> Result<Vec<Sha256>, StoreError> {
    let conditions: Vec<String> = NAMINGS
        .iter()
        .map(|Naming { blob, from, only, .. }| {
            format!("not exists (select 1 from {from} where {blob} = wanted.blob and {only})")
        })
        .collect();
    let query = format!(
        "select distinct wanted.blob from unnest($1::text[]) as wanted (blob) where {}",
        conditions.join(" and ")
    );
    let names: Vec<String> = blobs.iter().map(ToString::to_string).collect();
    let rows = sqlx::query(AssertSqlSafe(query)).bind(names).fetch_all(connection).await?;
    Ok(rows.iter().map(|row| parsed(row, "blob")).collect::<sqlx::Result<_>>()?)
}

/// Every blob that a row names, with one of the things that it is to people.
pub(super) async fn all(pool: &PgPool) -> Result<HashMap<Sha256, String>, StoreError> {
    let mut named = HashMap::new();
    for Naming { blob, from, only, what } in &NAMINGS {
        let query = format!("select {blob} as blob, {what} as what from {from} where {only}");
        for row in &sqlx::query(AssertSqlSafe(query)).fetch_all(pool).await? {
            named.insert(parsed(row, "blob")?, row.try_get("what")?);
        }
    }
    Ok(named)
}

/// Makes sure of files that were stored before the rows that name them were added, and that nothing
/// protected in between: what was removed meanwhile is stored again.
pub async fn settle(store: &Store, files: &[(Sha256, Content)]) -> Result<(), StoreError> {
    let mut transaction = store.pool.begin().await?;
    hold(&mut transaction).await?;
    for (sha256, content) in files {
        if !store.blobs.exists(sha256).await? {
            store.blobs.put(content).await?;
        }
    }
    Ok(transaction.commit().await?)
}
