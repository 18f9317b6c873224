//! The files that a run publishes, in the blob store.

use super::Worker;
use crate::domain::model::Artifact;
use crate::store::queue::Claimed;
use crate::store::{Content, StoreError, settle};
use crate::training::Packed;

impl Worker {
    /// Stores the files that a run gives.
    pub(super) async fn keep(&self, files: &[Packed]) -> Result<Vec<Artifact>, StoreError> {
        let mut artifacts = Vec::with_capacity(files.len());
        for file in files {
            let blob = self.store.blobs.put_bytes(file.bytes.clone()).await?;
            artifacts.push(Artifact {
                name: file.name.to_owned(),
                media_type: file.media_type.to_owned(),
                size_bytes: blob.size_bytes,
                sha256: blob.sha256,
            });
        }
        Ok(artifacts)
    }

    /// Makes sure of the files once rows name them.
    pub(super) async fn settle(&self, run: &Claimed, artifacts: &[Artifact], files: Vec<Packed>) {
        let named = artifacts.iter().zip(files);
        let content = |file: Packed| Content::Bytes(file.bytes);
        let files: Vec<_> =
            named.map(|(artifact, file)| (artifact.sha256, content(file))).collect();
        // The run has succeeded by now, whatever happens here.
        if let Err(error) = settle(&self.store, &files).await {
            tracing::error!(run = %run.id, %error, "the published files were not made sure of");
        }
    }
}
