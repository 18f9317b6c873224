//! Content-addressed blobs: stored under their SHA-256, which every content is held to when it is
//! read.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutPayload, WriteMultipart};
use sha2::{Digest, Sha256 as Hasher};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::whole::{Mark, Whole};
use crate::domain::Sha256;
use crate::store::error::StoreError;

pub use super::whole::State;

/// Bytes read at a time.
const CHUNK_BYTES: usize = 1 << 20;
/// The folder of all blobs in a store.
const FOLDER: &str = "blobs";

/// A blob that was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blob {
    /// Its name.
    pub sha256: Sha256,
    /// Its size.
    pub size_bytes: u64,
}

/// A blob as a listing shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// Name and size.
    pub blob: Blob,
    /// The time at which it was stored last.
    pub modified: SystemTime,
}

/// The content that is to be stored.
#[derive(Debug, Clone)]
pub enum Content {
    /// Bytes in memory.
    Bytes(Bytes),
    /// Bytes in a file.
    File(PathBuf),
}

/// The blob store.
#[derive(Debug, Clone)]
pub struct Blobs {
    store: Arc<dyn ObjectStore>,
    folder: Option<PathBuf>,
    whole: Arc<Whole>,
}

impl Blobs {
    /// Blobs in a local folder, which is made when it is missing.
    pub fn local(folder: &Path) -> Result<Self, StoreError> {
        std::fs::create_dir_all(folder)?;
        let folder = folder.canonicalize()?;
        let store = LocalFileSystem::new_with_prefix(&folder)?.with_fsync(true);
        Ok(Self { store: Arc::new(store), folder: Some(folder), whole: Arc::default() })
    }

    /// Blobs in any object store.
    pub fn remote(store: Arc<dyn ObjectStore>) -> Self {
        Self { store, folder: None, whole: Arc::default() }
    }

    /// Stores bytes. Where they are already, nothing is written but the time; a damaged blob of
    /// their name is replaced.
    pub async fn put_bytes(&self, bytes: Bytes) -> Result<Blob, StoreError> {
        let blob = Blob { sha256: Sha256::of(&bytes), size_bytes: bytes.len() as u64 };
        if !self.is_kept(&blob.sha256).await? {
            self.store.put(&key(&blob.sha256), PutPayload::from_bytes(bytes)).await?;
        }
        Ok(blob)
    }

    /// Stores a content.
    pub async fn put(&self, content: &Content) -> Result<Blob, StoreError> {
        match content {
            Content::Bytes(bytes) => self.put_bytes(bytes.clone()).await,
            Content::File(path) => self.put_file(path).await,
        }
    }

    /// Stores a file like [`Blobs::put_bytes`], streaming it twice: once for its digest, once to
    /// the store.
    pub async fn put_file(&self, path: &Path) -> Result<Blob, StoreError> {
        let blob = digest_of_file(path).await?;
        if self.is_kept(&blob.sha256).await? {
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

    /// Whether a blob is there whole; then it counts as stored now, and no sweep takes it for a
    /// leftover. Another store than a folder is written again instead.
    async fn is_kept(&self, sha256: &Sha256) -> Result<bool, StoreError> {
        let Some(path) = self.path(sha256) else { return Ok(false) };
        if self.state(sha256).await? != State::Whole {
            return Ok(false);
        }
        let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
        let times = rustix::fs::Timestamps { last_access: now, last_modification: now };
        let none = rustix::fs::AtFlags::empty();
        match rustix::fs::utimensat(rustix::fs::CWD, &path, &times, none) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::NOENT) => Ok(false),
            Err(error) => Err(std::io::Error::from(error).into()),
        }
    }

    /// Whether a blob is there, whole or not.
    pub async fn exists(&self, sha256: &Sha256) -> Result<bool, StoreError> {
        Ok(self.head(sha256).await?.is_some())
    }

    async fn head(&self, sha256: &Sha256) -> Result<Option<ObjectMeta>, StoreError> {
        match self.store.head(&key(sha256)).await {
            Ok(found) => Ok(Some(found)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The state of a blob. It is hashed, unless it was found whole before and has not changed since.
    pub async fn state(&self, sha256: &Sha256) -> Result<State, StoreError> {
        if let Some(path) = self.path(sha256) {
            return self.look(path, *sha256).await;
        }
        let Some(found) = self.head(sha256).await? else { return Ok(State::Missing) };
        if Mark::of_object(&found).is_some_and(|mark| self.whole.knows(sha256, &mark)) {
            return Ok(State::Whole);
        }
        let found = match self.store.get(&key(sha256)).await {
            Err(object_store::Error::NotFound { .. }) => return Ok(State::Missing),
            found => found?,
        };
        let mark = Mark::of_object(&found.meta);
        let (mut chunks, mut hasher) = (found.into_stream(), Hasher::new());
        while let Some(chunk) = chunks.next().await {
            hasher.update(&chunk?);
        }
        let is_whole = self.whole.judge(sha256, &Sha256::finish(hasher), mark);
        Ok(if is_whole { State::Whole } else { State::Damaged })
    }

    async fn look(&self, path: PathBuf, sha256: Sha256) -> Result<State, StoreError> {
        let whole = Arc::clone(&self.whole);
        blocking(move || whole.look(&path, &sha256)).await
    }

    async fn insist(&self, sha256: &Sha256) -> Result<(), StoreError> {
        match self.state(sha256).await? {
            State::Whole => Ok(()),
            State::Damaged => Err(StoreError::DamagedBlob(*sha256)),
            State::Missing => Err(StoreError::MissingBlob(*sha256)),
        }
    }

    /// A whole blob in memory.
    pub async fn bytes(&self, sha256: &Sha256) -> Result<Bytes, StoreError> {
        if let Some(path) = self.path(sha256) {
            let (whole, sha256) = (Arc::clone(&self.whole), *sha256);
            return Ok(blocking(move || whole.read(&path, &sha256)).await?.into());
        }
        let found = self.store.get(&key(sha256)).await.map_err(|error| missing(error, sha256))?;
        let mark = Mark::of_object(&found.meta);
        let bytes = found.bytes().await?;
        if self.whole.judge(sha256, &Sha256::of(&bytes), mark) {
            return Ok(bytes);
        }
        Err(StoreError::DamagedBlob(*sha256))
    }

    /// A blob as a stream of chunks, known to be whole before the first of them.
    pub async fn stream(
        &self,
        sha256: &Sha256,
    ) -> Result<BoxStream<'static, object_store::Result<Bytes>>, StoreError> {
        self.insist(sha256).await?;
        let found = self.store.get(&key(sha256)).await.map_err(|error| missing(error, sha256))?;
        Ok(found.into_stream())
    }

    /// A path at which the whole blob can be read: its own in a local store, else a copy in
    /// `folder`.
    pub async fn materialise(&self, sha256: &Sha256, folder: &Path) -> Result<PathBuf, StoreError> {
        if let Some(path) = self.path(sha256) {
            self.insist(sha256).await?;
            return Ok(path);
        }
        let path = folder.join(sha256.to_string());
        if self.look(path.clone(), *sha256).await? == State::Whole {
            return Ok(path);
        }
        tokio::fs::create_dir_all(folder).await?;
        let found = self.store.get(&key(sha256)).await.map_err(|error| missing(error, sha256))?;
        let part = tempfile::NamedTempFile::new_in(folder)?;
        let mut file = tokio::fs::File::from_std(part.reopen()?);
        let (mut chunks, mut hasher) = (found.into_stream(), Hasher::new());
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk?;
            hasher.update(&chunk);
            file.write_all(&chunk).await?;
        }
        file.sync_all().await?;
        if !self.whole.judge(sha256, &Sha256::finish(hasher), None) {
            return Err(StoreError::DamagedBlob(*sha256));
        }
        part.persist(&path).map_err(|error| error.error)?;
        Ok(path)
    }

    /// Removes a blob, whatever names it; that it is gone already is no error. Only `sweep` may ask
    /// for it, for it knows what names it.
    pub async fn delete(&self, sha256: &Sha256) -> Result<(), StoreError> {
        match self.store.delete(&key(sha256)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Every blob, in no order.
    pub fn list(&self) -> BoxStream<'static, Result<Listed, StoreError>> {
        let found = self.store.list(Some(&Key::from(FOLDER)));
        let listed = found.filter_map(|found| async {
            match found {
                // What has no digest for a name was put there by somebody else.
                Ok(found) => listed(&found).map(Ok),
                Err(error) => Some(Err(error.into())),
            }
        });
        listed.boxed()
    }

    /// The files of writes that never ended, with the time of their last write. A folder has them
    /// beside the blobs, as `…#1`.
    pub async fn leftovers(&self) -> Result<Vec<(PathBuf, SystemTime)>, StoreError> {
        let Some(folder) = &self.folder else { return Ok(Vec::new()) };
        let folder = folder.join(FOLDER);
        blocking(move || unfinished(&folder)).await
    }

    fn path(&self, sha256: &Sha256) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.join(key(sha256).as_ref()))
    }
}

/// Does what waits for the disk on a thread that may wait.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| StoreError::Io(std::io::Error::other(error)))?
}

fn listed(found: &ObjectMeta) -> Option<Listed> {
    let sha256 = found.location.filename()?.parse().ok()?;
    let blob = Blob { sha256, size_bytes: found.size };
    // Elsewhere it is not the blob of this name.
    (found.location == key(&sha256)).then(|| Listed { blob, modified: found.last_modified.into() })
}

fn unfinished(folder: &Path) -> Result<Vec<(PathBuf, SystemTime)>, StoreError> {
    let mut found = Vec::new();
    let inner = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        inner => inner?,
    };
    for inner in inner {
        let inner = inner?;
        if !inner.file_type()?.is_dir() {
            continue;
        }
        for file in std::fs::read_dir(inner.path())? {
            let file = file?;
            if file.file_name().to_string_lossy().contains('#')
                // It may have ended meanwhile.
                && let Ok(modified) = file.metadata().and_then(|found| found.modified())
            {
                found.push((file.path(), modified));
            }
        }
    }
    Ok(found)
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
    Key::from(format!("{FOLDER}/{}/{name}", &name[..2]))
}

fn missing(error: object_store::Error, sha256: &Sha256) -> StoreError {
    match error {
        object_store::Error::NotFound { .. } => StoreError::MissingBlob(*sha256),
        error => error.into(),
    }
}
