//! Deleting datasets, images, models and backbones: with all rows that only they need, and with the
//! files that nothing else names.
//!
//! What stays on record of a dataset that runs learnt from are the versions that they name: digest,
//! labels and counts. Of models and backbones the rows stay, for the runs that made or used them.

use sqlx::{PgConnection, Row};

use super::Store;
use super::error::StoreError;
use super::files::sweep;
use super::row::{is_gone, json, parsed, parsed_option};
use crate::domain::model::Artifact;
use crate::domain::{BackboneId, DatasetId, ImageId, ModelId, Sha256};

/// Takes everything of a dataset away but the versions that runs name, in this order.
const OF_DATASET: [&str; 9] = [
    "delete from matched_pairs m using runs r, dataset_versions v
     where r.id = m.run_id and v.id = r.dataset_version_id and v.dataset_id = $1",
    // Nothing can go on from them any more.
    "delete from checkpoints c using runs r, dataset_versions v
     where r.id = c.run_id and v.dataset_id = $1
       and (v.id = r.dataset_version_id or v.id::text = r.spec->'gate'->>'dataset_version')",
    "delete from predictions p using images i where i.id = p.image_id and i.dataset_id = $1",
    "delete from version_images f using dataset_versions v
     where v.id = f.version_id and v.dataset_id = $1",
    "delete from rejected_files where dataset_id = $1",
    "delete from images where dataset_id = $1",
    "delete from dataset_versions v
     where v.dataset_id = $1 and not exists (
         select 1 from runs r
         where r.dataset_version_id = v.id or r.spec->'gate'->>'dataset_version' = v.id::text)",
    "delete from datasets d
     where d.id = $1 and not exists (select 1 from dataset_versions v where v.dataset_id = d.id)",
    "update datasets set deleted_at = now(), name = 'deleted' where id = $1",
];

/// Deletes a dataset that no unfinished run learns from or is judged by; whether there was one.
pub async fn dataset(store: &Store, id: DatasetId) -> Result<bool, StoreError> {
    let mut transaction = store.pool.begin().await?;
    // Uploads wait for it, and then find it gone.
    let found =
        sqlx::query("select 1 from datasets where id = $1 and deleted_at is null for update")
            .bind(id.0)
            .fetch_optional(&mut *transaction)
            .await?;
    if found.is_none() {
        return Ok(false);
    }
    // Runs that are being queued wait for these.
    sqlx::query("select 1 from dataset_versions where dataset_id = $1 for update")
        .bind(id.0)
        .execute(&mut *transaction)
        .await?;
    let row = sqlx::query(
        "select count(distinct r.id) as waiting from runs r
         join dataset_versions v on v.id = r.dataset_version_id
             or v.id::text = r.spec->'gate'->>'dataset_version'
         where v.dataset_id = $1 and r.status in ('queued', 'running')",
    )
    .bind(id.0)
    .fetch_one(&mut *transaction)
    .await?;
    refuse_waiting("the dataset", row.try_get("waiting")?)?;
    let blobs = of_dataset(&mut transaction, id).await?;
    for statement in OF_DATASET {
        sqlx::query(statement).bind(id.0).execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    sweep::after_deletion(store, "a dataset was deleted", &blobs).await;
    Ok(true)
}

async fn of_dataset(
    connection: &mut PgConnection,
    id: DatasetId,
) -> Result<Vec<Sha256>, StoreError> {
    let rows = sqlx::query(
        "select blob from images where dataset_id = $1
         union
         select kept.blob from checkpoints c
             join runs r on r.id = c.run_id
             join dataset_versions v on v.id = r.dataset_version_id
                 or v.id::text = r.spec->'gate'->>'dataset_version'
             cross join lateral (values (c.blob), (c.previous)) as kept (blob)
         where v.dataset_id = $1 and kept.blob is not null",
    )
    .bind(id.0)
    .fetch_all(connection)
    .await?;
    Ok(rows.iter().map(|row| parsed(row, "blob")).collect::<sqlx::Result<_>>()?)
}

/// Deletes one image of a dataset; whether there was one. A version that holds it keeps it, unseen,
/// until the dataset is deleted.
pub async fn image(store: &Store, id: ImageId) -> Result<bool, StoreError> {
    let row = sqlx::query(
        "update images set deleted_at = now() where id = $1 and deleted_at is null returning blob",
    )
    .bind(id.0)
    .fetch_optional(&store.pool)
    .await?;
    let Some(row) = row else { return Ok(false) };
    let forgotten = sqlx::query(
        "delete from images i where i.id = $1 and not exists (
             select 1 from version_images v where v.image_id = i.id)",
    )
    .bind(id.0)
    .execute(&store.pool)
    .await;
    match forgotten {
        // A version that holds it was frozen between the look and the deed.
        Err(error) if is_gone(&error) => {}
        forgotten => {
            forgotten?;
        }
    }
    sweep::after_deletion(store, "an image was deleted", &[parsed(&row, "blob")?]).await;
    Ok(true)
}

/// Deletes a model; whether there was one. Its evaluation and its run stay on record.
pub async fn model(store: &Store, id: ModelId) -> Result<bool, StoreError> {
    let mut transaction = store.pool.begin().await?;
    let done =
        sqlx::query("update models set deleted_at = now() where id = $1 and deleted_at is null")
            .bind(id.0)
            .execute(&mut *transaction)
            .await?;
    if done.rows_affected() == 0 {
        return Ok(false);
    }
    let rows = sqlx::query("delete from artifacts where model_id = $1 returning sha256")
        .bind(id.0)
        .fetch_all(&mut *transaction)
        .await?;
    transaction.commit().await?;
    let blobs: Vec<Sha256> =
        rows.iter().map(|row| parsed(row, "sha256")).collect::<sqlx::Result<_>>()?;
    sweep::after_deletion(store, "a model was deleted", &blobs).await;
    Ok(true)
}

/// Deletes a backbone that no unfinished run needs; whether there was one. It stays on record for
/// the runs that started from it.
pub async fn backbone(store: &Store, id: BackboneId) -> Result<bool, StoreError> {
    let mut transaction = store.pool.begin().await?;
    let row = sqlx::query(
        "update backbones set deleted_at = now() where id = $1 and deleted_at is null
         returning weights_sha256, onnx_sha256, artifacts",
    )
    .bind(id.0)
    .fetch_optional(&mut *transaction)
    .await?;
    let Some(row) = row else { return Ok(false) };
    let waiting = sqlx::query(
        "select count(*) as waiting from runs
         where backbone_id = $1 and status in ('queued', 'running')",
    )
    .bind(id.0)
    .fetch_one(&mut *transaction)
    .await?;
    refuse_waiting("the backbone", waiting.try_get("waiting")?)?;
    let weights: Sha256 = parsed(&row, "weights_sha256")?;
    let artifacts: Vec<Artifact> = json(&row, "artifacts")?;
    let mut blobs = vec![weights, parsed(&row, "onnx_sha256")?];
    blobs.extend(artifacts.iter().map(|artifact| artifact.sha256));
    blobs.extend(checkpoints_from(&mut transaction, id).await?);
    sqlx::query(
        "delete from features where backbone_sha256 = $1 and not exists (
             select 1 from backbones where weights_sha256 = $1 and deleted_at is null)",
    )
    .bind(weights.to_string())
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    sweep::after_deletion(store, "a backbone was deleted", &blobs).await;
    Ok(true)
}

/// Forgets the checkpoints of ended runs that started from a backbone: nothing goes on from them.
async fn checkpoints_from(
    connection: &mut PgConnection,
    id: BackboneId,
) -> Result<Vec<Sha256>, StoreError> {
    let rows = sqlx::query(
        "delete from checkpoints c using runs r where r.id = c.run_id and r.backbone_id = $1
         returning c.blob, c.previous",
    )
    .bind(id.0)
    .fetch_all(connection)
    .await?;
    let mut blobs = Vec::new();
    for row in &rows {
        blobs.push(parsed(row, "blob")?);
        blobs.extend(parsed_option::<Sha256>(row, "previous")?);
    }
    Ok(blobs)
}

fn refuse_waiting(what: &'static str, waiting: i64) -> Result<(), StoreError> {
    match waiting {
        0 => Ok(()),
        waiting => {
            Err(StoreError::InUse { what, by: format!("{waiting} queued or running run(s)") })
        }
    }
}
