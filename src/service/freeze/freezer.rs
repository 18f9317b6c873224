//! Freezes datasets: reads their images, has the splits drawn, and records the version.

use super::draft::{Draw, draft};
use super::error::FreezeError;
use crate::config::Limits;
use crate::domain::dataset::Version;
use crate::domain::image::Image;
use crate::imaging::PatientHasher;
use crate::store::{Store, images, versions};

/// Freezes datasets into versions.
#[derive(Debug, Clone)]
pub struct Freezer {
    store: Store,
    /// Tells which images name no patient.
    hasher: PatientHasher,
    max_classes: u64,
}

impl Freezer {
    /// A freezer of the store's datasets, as the limits say.
    pub fn new(store: Store, hasher: PatientHasher, limits: &Limits) -> Self {
        Self { store, hasher, max_classes: limits.classes }
    }

    /// Freezes the images of a dataset that is there; the version as it is recorded.
    pub async fn freeze(&self, draw: Draw) -> Result<Version, FreezeError> {
        let pool = &self.store.pool;
        let images = images::for_snapshot(pool, draw.dataset, draw.include_unlabelled).await?;
        let (hasher, max_classes) = (self.hasher.clone(), self.max_classes);
        let drafted = tokio::task::spawn_blocking(move || {
            let is_lone = |image: &Image| image.patient_key == hasher.lone(&image.blob);
            draft(&draw, images, max_classes, is_lone)
        });
        let drafted = drafted.await??;
        Ok(versions::freeze(pool, &drafted.version, &drafted.images).await?)
    }
}
