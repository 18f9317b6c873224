//! Cached features: what a backbone made of an image, computed once.

use std::collections::HashMap;

use sqlx::{PgPool, Row};

use crate::domain::Sha256;
use crate::store::error::StoreError;
use crate::store::row::{parsed, small};

/// The features that are asked for: those of one backbone under one preprocessing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Extractor {
    /// SHA-256 of the backbone's weights.
    pub backbone: Sha256,
    /// Digest of the preprocessing.
    pub preprocessing: Sha256,
}

/// The cached vectors of the named blobs, by blob and frame.
pub async fn get(
    pool: &PgPool,
    extractor: &Extractor,
    blobs: &[Sha256],
) -> Result<HashMap<(Sha256, u32), Vec<f32>>, StoreError> {
    let names: Vec<String> = blobs.iter().map(ToString::to_string).collect();
    let rows = sqlx::query(
        "select blob, frame, vector from features
         where backbone_sha256 = $1 and preprocessing = $2 and blob = any($3)",
    )
    .bind(extractor.backbone.to_string())
    .bind(extractor.preprocessing.to_string())
    .bind(names)
    .fetch_all(pool)
    .await?;
    let mut found = HashMap::with_capacity(rows.len());
    for row in &rows {
        let bytes: Vec<u8> = row.try_get("vector")?;
        let vector = bytes
            .chunks_exact(4)
            .map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]))
            .collect();
        found.insert((parsed(row, "blob")?, small(row, "frame")?), vector);
    }
    Ok(found)
}

/// Caches vectors by blob and frame; one that is there already stays.
pub async fn put(
    pool: &PgPool,
    extractor: &Extractor,
    vectors: &[((Sha256, u32), Vec<f32>)],
) -> Result<(), StoreError> {
    // Two writers of the same rows must not wait for each other crosswise.
    let mut vectors: Vec<_> = vectors.iter().collect();
    vectors.sort_by_key(|(key, _)| *key);
    let blobs: Vec<String> = vectors.iter().map(|((blob, _), _)| blob.to_string()).collect();
    let frames: Vec<i32> = vectors.iter().map(|((_, frame), _)| *frame as i32).collect();
    let bytes = |vector: &[f32]| vector.iter().flat_map(|value| value.to_le_bytes()).collect();
    let vectors: Vec<Vec<u8>> = vectors.iter().map(|(_, vector)| bytes(vector)).collect();
    sqlx::query(
        "insert into features (backbone_sha256, preprocessing, blob, frame, vector)
         select $1, $2, blob, frame, vector
         from unnest($3::text[], $4::integer[], $5::bytea[]) as found (blob, frame, vector)
         on conflict do nothing",
    )
    .bind(extractor.backbone.to_string())
    .bind(extractor.preprocessing.to_string())
    .bind(blobs)
    .bind(frames)
    .bind(vectors)
    .execute(pool)
    .await?;
    Ok(())
}
