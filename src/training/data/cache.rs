//! Decoded pictures, kept in memory as far as its limit allows and then in a file as far as its own.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::compact::{Compact, Shape};
use crate::domain::Sha256;

/// The original and the frame of a picture.
type Key = (Sha256, u32);

/// Room for pictures, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// In memory.
    pub memory: u64,
    /// In the file.
    pub file: u64,
    /// Bytes that must stay free on the file's disk.
    pub keep_free: u64,
}

/// The contents of a cache now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Use {
    /// Bytes in memory.
    pub memory: u64,
    /// Bytes in the file.
    pub file: u64,
}

/// Decoded pictures by original and frame; shared by the threads that decode.
///
/// A picture that finds no room is simply not kept: what comes out is the same either way.
#[derive(Debug)]
pub struct Cache {
    room: Room,
    folder: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    kept: HashMap<Key, Place>,
    used: Use,
    file: Spill,
}

/// The file that takes what memory has no room for.
#[derive(Debug, Default)]
enum Spill {
    /// Not needed yet.
    #[default]
    None,
    /// Has no name: it is gone with the process, however that ends.
    Open(Arc<File>),
    /// The disk failed or filled up; nothing more is written.
    Closed,
}

#[derive(Debug, Clone)]
enum Place {
    Memory(Arc<Compact>),
    /// Being written; not to be read yet.
    Promised,
    File {
        file: Arc<File>,
        offset: u64,
        shape: Shape,
    },
}

impl Cache {
    /// An empty cache whose file, when it comes to one, lies in `folder`.
    pub fn new(room: Room, folder: &Path) -> Self {
        Self { room, folder: folder.to_owned(), state: Mutex::default() }
    }

    /// Its contents now.
    pub fn used(&self) -> Use {
        self.lock().used
    }

    /// A picture that was kept.
    pub fn get(&self, key: &Key) -> Option<Arc<Compact>> {
        let place = self.lock().kept.get(key).cloned()?;
        match place {
            Place::Memory(picture) => Some(picture),
            Place::Promised => None,
            Place::File { file, offset, shape } => {
                let mut bytes = vec![0; shape.bytes];
                match file.read_exact_at(&mut bytes, offset) {
                    Ok(()) => Some(Arc::new(Compact::from_bytes(shape, bytes))),
                    Err(error) => {
                        tracing::warn!(%error, "a decoded picture was not read back");
                        None
                    }
                }
            }
        }
    }

    /// Keeps a picture if there is room for it.
    pub fn put(&self, key: Key, picture: &Arc<Compact>) {
        let bytes = picture.size_bytes() as u64;
        let mut state = self.lock();
        if state.kept.contains_key(&key) {
            return;
        }
        if state.used.memory + bytes <= self.room.memory {
            state.used.memory += bytes;
            state.kept.insert(key, Place::Memory(Arc::clone(picture)));
            return;
        }
        if state.used.file + bytes > self.room.file {
            return;
        }
        let file = match self.open(&mut state.file, bytes) {
            Ok(Some(file)) => file,
            Ok(None) => return,
            Err(error) => return close(&mut state, &error),
        };
        let offset = state.used.file;
        state.used.file += bytes;
        state.kept.insert(key, Place::Promised);
        drop(state);
        // Written without the lock: other threads read and decode meanwhile.
        let written = file.write_all_at(&picture.to_bytes(), offset);
        let mut state = self.lock();
        match written {
            Ok(()) => {
                state.kept.insert(key, Place::File { file, offset, shape: picture.shape() });
            }
            Err(error) => {
                state.kept.remove(&key);
                close(&mut state, &error);
            }
        }
    }

    /// The file to write `bytes` to, made when there is none; nothing when there is to be none.
    fn open(&self, spill: &mut Spill, bytes: u64) -> io::Result<Option<Arc<File>>> {
        let file = match spill {
            Spill::Open(file) => Arc::clone(file),
            Spill::Closed => return Ok(None),
            Spill::None => {
                let file = Arc::new(tempfile::tempfile_in(&self.folder)?);
                *spill = Spill::Open(Arc::clone(&file));
                file
            }
        };
        let disk = rustix::fs::fstatvfs(&file)?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free < self.room.keep_free.saturating_add(bytes) {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "the disk is nearly full"));
        }
        Ok(Some(file))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes no more pictures. Those that are written keep the file open and stay readable.
fn close(state: &mut State, error: &io::Error) {
    tracing::warn!(%error, "no more decoded pictures are kept on disk");
    state.file = Spill::Closed;
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Cache, Room, Use};
    use crate::domain::Sha256;
    use crate::imaging::{Picture, Samples};
    use crate::training::data::Compact;

    /// A picture of 1024 bytes.
    fn picture(of: u8) -> ((Sha256, u32), Arc<Compact>) {
        let picture = Picture {
            width: 32,
            height: 32,
            samples: Samples::Gray(vec![f32::from(of); 32 * 32]),
            range: (0.0, 255.0),
            window: None,
            modality: None,
        };
        ((Sha256::of(&[of]), 0), Arc::new(Compact::of(&picture, 32).expect("a picture")))
    }

    fn filled(room: Room) -> Cache {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache::new(room, folder.path());
        for of in 0..10 {
            let (key, picture) = picture(of);
            cache.put(key, &picture);
            cache.put(key, &picture);
        }
        cache
    }

    #[test]
    fn memory_fills_first_then_the_file_and_neither_beyond_its_limit() {
        let cache = filled(Room { memory: 3 * 1024 + 1023, file: 5 * 1024, keep_free: 0 });

        assert_eq!(cache.used(), Use { memory: 3 * 1024, file: 5 * 1024 });
        for of in 0..10 {
            let (key, picture) = picture(of);
            let expected = (of < 8).then_some(picture);
            assert_eq!(cache.get(&key), expected, "{of}");
        }
    }

    #[test]
    fn the_file_leaves_the_disk_the_room_it_must() {
        let cache = filled(Room { memory: 1024, file: 5 * 1024, keep_free: u64::MAX });

        assert_eq!(cache.used(), Use { memory: 1024, file: 0 });
        assert_eq!(cache.get(&picture(1).0), None);
    }

    #[test]
    fn a_folder_that_is_gone_costs_only_the_cache() {
        let cache =
            Cache::new(Room { memory: 0, file: 5 * 1024, keep_free: 0 }, "/nowhere".as_ref());
        let (key, picture) = picture(1);

        cache.put(key, &picture);

        assert_eq!((cache.get(&key), cache.used()), (None, Use::default()));
    }

    #[test]
    fn many_threads_keep_and_read_the_same_pictures() {
        let folder = tempfile::tempdir().expect("a folder");
        let room = Room { memory: 20 * 1024, file: 50 * 1024, keep_free: 0 };
        let cache = Cache::new(room, folder.path());

        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for of in (0..100).chain(0..100) {
                        let (key, picture) = picture(of);
                        cache.put(key, &picture);
                        assert!(cache.get(&key).is_none_or(|kept| kept == picture));
                    }
                });
            }
        });

        assert_eq!(cache.used(), Use { memory: 20 * 1024, file: 50 * 1024 });
        let kept = (0..100).filter(|of| cache.get(&picture(*of).0).is_some());
        assert_eq!(kept.count(), 70);
    }
}
