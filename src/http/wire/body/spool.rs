//! Uploads on their way in: streamed to a file on the data folder's disk, never held in memory.

use std::fs::File;
use std::path::Path;

use axum::body::Body;
use axum::extract::multipart::Field;
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt;

use super::bounds::{Parts, spool_failed};
use crate::domain::Size;
use crate::http::app::App;
use crate::http::wire::problem::{Code, Problem};

/// Bytes written between two looks at the free disk.
const LOOK_BYTES: u64 = 64 << 20;

/// Takes a raw body in. The file has no name: whatever happens, the system removes it.
pub async fn take(app: &App, body: Body, declared: Option<u64>) -> Result<File, Problem> {
    let most = app.upload_bounds();
    most.check(declared.unwrap_or(0))?;
    check_room(app, declared.unwrap_or(0))?;
    let mut writer = Spooled::nameless(app)?;
    let mut parts = Parts::new(body, most);
    while let Some(part) = parts.next().await? {
        writer.write(&part).await?;
    }
    writer.finish().await
}

/// Takes a field of a form in. The file has a name, for readers that need a path, and is removed
/// when it is dropped.
pub async fn take_field(app: &App, field: &mut Field<'_>) -> Result<NamedTempFile, Problem> {
    let most = app.upload_bounds();
    check_room(app, 0)?;
    let file = NamedTempFile::new_in(&app.spool).map_err(spool_failed)?;
    let mut writer = Spooled::into_file(app, file.reopen().map_err(spool_failed)?);
    while let Some(part) = most.wait(field.chunk()).await?? {
        most.check(writer.written + part.len() as u64)?;
        writer.write(&part).await?;
    }
    writer.finish().await?;
    Ok(file)
}

/// A file on its way in.
#[expect(missing_debug_implementations, reason = "what it borrows has none")]
pub struct Spooled<'a> {
    app: &'a App,
    file: tokio::fs::File,
    written: u64,
    looked: u64,
}

impl<'a> Spooled<'a> {
    /// A file without a name, as long as the disk has room.
    pub fn new(app: &'a App) -> Result<Self, Problem> {
        check_room(app, 0)?;
        Self::nameless(app)
    }

    fn nameless(app: &'a App) -> Result<Self, Problem> {
        let file = tempfile::tempfile_in(&app.spool).map_err(spool_failed)?;
        Ok(Self::into_file(app, file))
    }

    fn into_file(app: &'a App, file: File) -> Self {
        Self { app, file: tokio::fs::File::from_std(file), written: 0, looked: 0 }
    }

    /// Adds bytes.
    pub async fn write(&mut self, part: &[u8]) -> Result<(), Problem> {
        self.file.write_all(part).await.map_err(spool_failed)?;
        self.written += part.len() as u64;
        if self.written - self.looked >= LOOK_BYTES {
            self.looked = self.written;
            check_room(self.app, 0)?;
        }
        Ok(())
    }

    /// The whole file.
    pub async fn finish(mut self) -> Result<File, Problem> {
        // A full disk may only show here, when the last bytes leave the buffer.
        self.file.flush().await.map_err(spool_failed)?;
        Ok(self.file.into_std().await)
    }
}

/// Fails unless `more` bytes leave enough of the disk free.
fn check_room(app: &App, more: u64) -> Result<(), Problem> {
    let free = free_bytes(&app.spool)?;
    let needed = app.limits.free_bytes.saturating_add(more);
    if free >= needed {
        return Ok(());
    }
    Err(Problem::new(
        Code::StorageFull,
        format!(
            "the data folder's disk has {} free; {} are needed for this upload and the reserve \
             (LVMED_LIMIT_FREE_BYTES)",
            Size(free),
            Size(needed)
        ),
    ))
}

/// Bytes free on the disk of a folder.
pub(crate) fn free_bytes(folder: &Path) -> Result<u64, Problem> {
    let found = rustix::fs::statvfs(folder).map_err(|error| spool_failed(error.into()))?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}
