//! The progress of the reading of an upload: counted by whoever reads, looked at by whoever asks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The progress of the reading of an upload; its copies share one count.
#[derive(Debug, Clone, Default)]
pub struct UploadProgress(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    total: AtomicU64,
    read: AtomicU64,
}

impl UploadProgress {
    /// Says how many files there are to read.
    pub fn total(&self, files: u64) {
        self.0.total.store(files, Ordering::Relaxed);
    }

    /// Says that one more file was read, whatever came of it.
    pub fn one_more(&self) {
        self.0.read.fetch_add(1, Ordering::Relaxed);
    }

    /// Files read so far.
    pub fn files_read(&self) -> u64 {
        self.0.read.load(Ordering::Relaxed)
    }

    /// Files there are to read; 0 before it is known.
    pub fn files_total(&self) -> u64 {
        self.0.total.load(Ordering::Relaxed)
    }
}
