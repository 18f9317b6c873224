//! Content-addressed blobs: written once under their SHA-256, never changed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, WriteMultipart};
use sha2::{Digest, Sha256 as Hasher};
use tokio::io::AsyncReadExt;

use super::StoreError;
use crate::domain::Sha256;

/// Bytes read at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// What was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blob {
    /// Its name.
    pub sha256: Sha256,
    /// Its size.
    pub size_bytes: u64,
}

/// The blob store.
#[derive(Debug, Clone)]
pub struct Blobs {
    store: Arc<dyn ObjectStore>,
    folder: Option<PathBuf>,
}

impl Blobs {
    /// Blobs in a local folder, which is made when it is missing.
    pub fn local(folder: &Path) -> Result<Self, StoreError> {
        std::fs::create_dir_all(folder)?;
        let folder = folder.canonicalize()?;
        let store = LocalFileSystem::new_with_prefix(&folder)?.with_fsync(true);
        Ok(Self { store: Arc::new(store), folder: Some(folder) })
    }

    /// Blobs in any object store.
    pub fn remote(store: Arc<dyn ObjectStore>) -> Self {
        Self { store, folder: None }
    }

    /// Stores bytes; when they are there already, nothing is written.
    pub async fn put_bytes(&self, bytes: Bytes) -> Result<Blob, StoreError> {
        let blob = Blob { sha256: Sha256::of(&bytes), size_bytes: bytes.len() as u64 };
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let payload = PutPayload::from_bytes(bytes);
        match self.store.put_opts(&key(&blob.sha256), payload, options).await {
            Ok(_) | Err(object_store::Error::AlreadyExists { .. }) => Ok(blob),
            Err(error) => Err(error.into()),
        }
    }

    /// Stores a file, streaming it twice: once for its digest, once to the store.
    pub async fn put_file(&self, path: &Path) -> Result<Blob, StoreError> {
        let blob = digest_of_file(path).await?;
        if self.exists(&blob.sha256).await? {
            return Ok(blob);
        }
        let mut file = tokio::fs::File::open(path).await?;
        let mut upload = WriteMultipart::new(self.store.put_multipart(&key(&blob.sha256)).await?);
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let read = file.read(&mut chunk).await?;
            if read == 0 {
                break;
            }
            upload.wait_for_capacity(4).await?;
            upload.write(&chunk[..read]);
        }
        upload.finish().await?;
        Ok(blob)
    }

    /// Whether a blob is there.
    pub async fn exists(&self, sha256: &Sha256) -> Result<bool, StoreError> {
        match self.store.head(&key(sha256)).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// A whole blob in memory.
    pub async fn bytes(&self, sha256: &Sha256) -> Result<Bytes, StoreError> {
        let found = self.store.get(&key(sha256)).await.map_err(|error| missing(error, sha256))?;
        Ok(found.bytes().await?)
    }

    /// A blob as a stream of chunks.
    pub async fn stream(
        &self,
        sha256: &Sha256,
    ) -> Result<BoxStream<'static, object_store::Result<Bytes>>, StoreError> {
        let found = self.store.get(&key(sha256)).await.map_err(|error| missing(error, sha256))?;
        Ok(found.into_stream())
    }

    /// A path at which the blob can be read: its own in a local store, else a copy in `folder`.
    pub async fn materialise(&self, sha256: &Sha256, folder: &Path) -> Result<PathBuf, StoreError> {
        if let Some(root) = &self.folder {
            let path = root.join(key(sha256).as_ref());
            return if tokio::fs::try_exists(&path).await? {
                Ok(path)
            } else {
                Err(StoreError::MissingBlob(*sha256))
            };
        }
        let path = folder.join(sha256.to_string());
        if tokio::fs::try_exists(&path).await? {
            return Ok(path);
        }
        tokio::fs::create_dir_all(folder).await?;
        let part = tempfile::NamedTempFile::new_in(folder)?;
        let mut chunks = self.stream(sha256).await?;
        let mut file = tokio::fs::File::from_std(part.reopen()?);
        while let Some(chunk) = chunks.next().await {
            tokio::io::AsyncWriteExt::write_all(&mut file, &chunk?).await?;
        }
        file.sync_all().await?;
        part.persist(&path).map_err(|error| error.error)?;
        Ok(path)
    }

    /// Removes a blob; that it is gone already is no error.
    pub async fn delete(&self, sha256: &Sha256) -> Result<(), StoreError> {
        match self.store.delete(&key(sha256)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

async fn digest_of_file(path: &Path) -> Result<Blob, StoreError> {
    let mut file = tokio::fs::File::open(path).await?;
    let (mut hasher, mut size_bytes, mut chunk) = (Hasher::new(), 0, vec![0; CHUNK_BYTES]);
    loop {
        let read = file.read(&mut chunk).await?;
        if read == 0 {
            return Ok(Blob { sha256: Sha256::finish(hasher), size_bytes });
        }
        hasher.update(&chunk[..read]);
        size_bytes += read as u64;
    }
}

/// `blobs/<first two digits>/<digest>`
fn key(sha256: &Sha256) -> Key {
    let name = sha256.to_string();
    Key::from(format!("blobs/{}/{name}", &name[..2]))
}

fn missing(error: object_store::Error, sha256: &Sha256) -> StoreError {
    match error {
        object_store::Error::NotFound { .. } => StoreError::MissingBlob(*sha256),
        error => error.into(),
    }
}
