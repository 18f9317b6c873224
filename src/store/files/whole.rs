//! The stored files that were found to be what their names say, so that each is hashed once and not
//! at every use.

use std::collections::HashSet;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use object_store::ObjectMeta;
use sha2::{Digest, Sha256 as Hasher};

use crate::domain::Sha256;
use crate::store::error::StoreError;

/// Bytes read at a time.
const CHUNK_BYTES: usize = 1 << 20;
/// Files remembered at most, in a few megabytes; beyond that all are forgotten and hashed again.
const REMEMBERED: usize = 1 << 16;
/// A file that changed so short a time ago may change again within the grain of the file system's
/// clock, and would look the same.
const SETTLED: Duration = Duration::from_secs(1);

/// The state that a blob was found in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Its content is what its name says.
    Whole,
    /// Its content is another one, or cannot be read.
    Damaged,
    /// It is not there.
    Missing,
}

/// The marks of a file from outside; they change whenever the content does.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Mark {
    /// A file of this machine. The time of change cannot be set by anybody, unlike that of the
    /// modification.
    File { device: u64, inode: u64, size: u64, modified: (i64, i64), changed: (i64, i64) },
    /// An object of another store.
    Object { tag: String, version: Option<String>, size: u64 },
}

impl Mark {
    fn of_file(found: &Metadata) -> Self {
        Self::File {
            device: found.dev(),
            inode: found.ino(),
            size: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        }
    }

    /// None for a store that does not tell contents apart.
    pub(super) fn of_object(found: &ObjectMeta) -> Option<Self> {
        let tag = found.e_tag.clone()?;
        Some(Self::Object { tag, version: found.version.clone(), size: found.size })
    }

    /// Whether another change would show.
    fn is_settled(&self) -> bool {
        match self {
            Self::File { changed, .. } => {
                let changed = Duration::from_secs(changed.0.max(0).unsigned_abs());
                let age = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH + changed);
                // A time yet to come tells nothing: the clock was set back.
                age.is_ok_and(|age| age > SETTLED)
            }
            Self::Object { .. } => true,
        }
    }
}

/// The files that were found whole.
#[derive(Debug, Default)]
pub(super) struct Whole {
    found: Mutex<HashSet<(Sha256, Mark)>>,
    /// The damaged ones that the log has told of.
    told: Mutex<HashSet<Sha256>>,
}

impl Whole {
    pub(super) fn knows(&self, sha256: &Sha256, mark: &Mark) -> bool {
        locked(&self.found).contains(&(*sha256, mark.clone()))
    }

    /// Takes note of what a content was found to be; whether it is whole.
    pub(super) fn judge(&self, sha256: &Sha256, found: &Sha256, mark: Option<Mark>) -> bool {
        if found != sha256 {
            self.tell(sha256, &format!("its content has the SHA-256 {found}"));
            return false;
        }
        locked(&self.told).remove(sha256);
        if let Some(mark) = mark.filter(Mark::is_settled) {
            let mut known = locked(&self.found);
            if known.len() >= REMEMBERED {
                known.clear();
            }
            known.insert((*sha256, mark));
        }
        true
    }

    fn tell(&self, sha256: &Sha256, why: &str) {
        let mut told = locked(&self.told);
        if told.len() >= REMEMBERED {
            told.clear();
        }
        // However often it is asked for.
        if told.insert(*sha256) {
            tracing::error!(blob = %sha256, why, "a stored file is damaged");
        }
    }

    /// The state of the file at `path`. Blocks.
    pub(super) fn look(&self, path: &Path, sha256: &Sha256) -> Result<State, StoreError> {
        self.with_file(path, sha256, |file| {
            let mut hasher = Hasher::new();
            let mut chunk = vec![0; CHUNK_BYTES];
            loop {
                match file.read(&mut chunk)? {
                    0 => return Ok((Sha256::finish(hasher), ())),
                    read => hasher.update(&chunk[..read]),
                }
            }
        })
        .map(|found| match found {
            Found::Known(_) | Found::Whole(()) => State::Whole,
            Found::Damaged => State::Damaged,
            Found::Missing => State::Missing,
        })
    }

    /// The content of the file at `path`. Blocks.
    pub(super) fn read(&self, path: &Path, sha256: &Sha256) -> Result<Vec<u8>, StoreError> {
        let found = self.with_file(path, sha256, |file| {
            let content = content(file)?;
            Ok((Sha256::of(&content), content))
        })?;
        match found {
            Found::Known(mut file) => Ok(content(&mut file)?),
            Found::Whole(content) => Ok(content),
            Found::Damaged => Err(StoreError::DamagedBlob(*sha256)),
            Found::Missing => Err(StoreError::MissingBlob(*sha256)),
        }
    }

    fn with_file<T>(
        &self,
        path: &Path,
        sha256: &Sha256,
        hash: impl FnOnce(&mut File) -> io::Result<(Sha256, T)>,
    ) -> Result<Found<T>, StoreError> {
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Missing),
            Err(error) => return Err(error.into()),
        };
        let mark = Mark::of_file(&file.metadata()?);
        if self.knows(sha256, &mark) {
            return Ok(Found::Known(file));
        }
        let (found, content) = match hash(&mut file) {
            Ok(hashed) => hashed,
            // The disk cannot give the content back.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => {
                self.tell(sha256, &error.to_string());
                return Ok(Found::Damaged);
            }
            Err(error) => return Err(error.into()),
        };
        let unchanged = Mark::of_file(&file.metadata()?) == mark;
        let is_whole = self.judge(sha256, &found, unchanged.then_some(mark));
        Ok(if is_whole { Found::Whole(content) } else { Found::Damaged })
    }
}

/// A file as it was found.
enum Found<T> {
    /// Known to be whole from before, and not read.
    Known(File),
    Whole(T),
    Damaged,
    Missing,
}

fn content(file: &mut File) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    file.read_to_end(&mut content)?;
    Ok(content)
}

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::fs::{File, FileTimes};

    use super::{Mark, State, Whole};
    use crate::domain::Sha256;

    #[test]
    fn a_change_is_seen_even_when_size_and_time_of_modification_are_the_same() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("blob");
        std::fs::write(&path, b"content").expect("written");
        let (whole, name) = (Whole::default(), Sha256::of(b"content"));
        let before = Mark::of_file(&path.metadata().expect("there"));
        whole.judge(&name, &name, Some(before.clone()));
        assert!(!whole.knows(&name, &before), "it may change again within a tick of the clock");
        assert_eq!(whole.look(&path, &name).expect("read"), State::Whole);

        let modified = path.metadata().and_then(|found| found.modified()).expect("a time");
        std::fs::write(&path, b"contenT").expect("written");
        let file = File::options().write(true).open(&path).expect("opened");
        file.set_times(FileTimes::new().set_modified(modified)).expect("set back");

        assert_eq!(whole.look(&path, &name).expect("read"), State::Damaged);
    }

    #[test]
    fn a_file_that_was_found_whole_is_known_until_it_looks_different() {
        let (whole, name) = (Whole::default(), Sha256::of(b"content"));
        let mark = |inode| Mark::File {
            device: 1,
            inode,
            size: 7,
            modified: (1_700_000_000, 5),
            changed: (1_700_000_000, 5),
        };

        assert!(whole.judge(&name, &name, Some(mark(1))));

        assert!(whole.knows(&name, &mark(1)));
        assert!(!whole.knows(&name, &mark(2)));
        assert!(!whole.knows(&Sha256::of(b"other"), &mark(1)));
        assert!(!whole.judge(&name, &Sha256::of(b"other"), Some(mark(3))));
        assert!(!whole.knows(&name, &mark(3)));
    }
}
