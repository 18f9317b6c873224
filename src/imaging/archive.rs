//! ZIP archives from strangers: counted while they inflate, names never used as paths.

use std::fs::File;
use std::io::Read;

use zip::ZipArchive;
use zip::result::ZipError;

use super::foreign::Foreign;
use super::{ImagingError, SNIFFED_BYTES};
use crate::config::Limits;
use crate::domain::Size;

/// The ratio limit leaves the first bytes of an entry alone: small text packs well.
const RATIO_GRACE_BYTES: u64 = 10 << 20;

/// The reason why a whole archive is refused.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The central directory cannot be read.
    #[error("the ZIP archive cannot be read; it is damaged or was cut short")]
    NotAZip,
    /// There is nothing in it.
    #[error("the archive holds no files")]
    Empty,
    /// More entries than allowed.
    #[error("the archive has {found} entries; the limit is {max} (LVMED_LIMIT_ARCHIVE_ENTRIES)")]
    TooManyEntries {
        /// Entries found.
        found: u64,
        /// The limit.
        max: u64,
    },
    /// Entries share bytes, as only bombs do.
    #[error("entries of the archive overlap; it was made to do harm and is refused")]
    Overlapping,
    /// Two entries have one name.
    #[error("two entries of the archive have the same name; which one is meant is unclear")]
    DuplicateNames,
    /// All entries together inflate to more than allowed.
    #[error("the archive unpacks to more than {}, which is the limit (LVMED_LIMIT_ARCHIVE_BYTES)", Size(*max))]
    TooLarge {
        /// The limit.
        max: u64,
    },
}

/// The reason why one entry is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EntryError {
    /// The name would leave the archive's own folder.
    #[error("its name would lead outside of the archive (`..`, an absolute path or a drive)")]
    Escapes,
    /// The name is not text.
    #[error("its name is not valid text")]
    BadName,
    /// A link instead of a file.
    #[error("it is a symbolic link")]
    Link,
    /// A password would be needed.
    #[error("it is encrypted; upload the archive without a password")]
    Encrypted,
    /// An archive in an archive.
    #[error("it is an archive inside the archive; unpack it first")]
    Nested,
    /// A volume that looks like an archive, since it is packed.
    #[error(
        "it is a packed NIfTI volume (.nii.gz), which is not read here; convert its slices to DICOM \
         or PNG"
    )]
    PackedVolume,
    /// Larger than allowed.
    #[error("it has more than {}, which is the limit (LVMED_LIMIT_ENTRY_BYTES)", Size(*max))]
    TooLarge {
        /// The limit.
        max: u64,
    },
    /// Packed more tightly than any picture.
    #[error("it inflates to more than {max} times its packed size (LVMED_LIMIT_ARCHIVE_RATIO)")]
    Ratio {
        /// The limit.
        max: u64,
    },
    /// The packed data is damaged.
    #[error("it cannot be unpacked; the archive is damaged there")]
    Damaged,
    /// Packed in a way that is not unpacked here.
    #[error(
        "it is packed by a method other than the usual one (deflate); pack the archive again with \
         the usual settings"
    )]
    Method,
    /// Its first bytes are not those of a file that is wanted.
    #[error("{0}")]
    Unwanted(String),
}

/// An archive whose directory was checked.
pub struct Archive<'a> {
    zip: ZipArchive<File>,
    limits: &'a Limits,
    inflated: u64,
}

/// The name of an entry, and whether it can be used.
#[derive(Debug)]
pub struct Entry {
    /// The name as it can be shown.
    pub name: String,
    /// The permission to read the entry, or the reason why it is refused.
    pub usable: Result<(), EntryError>,
}

impl<'a> Archive<'a> {
    /// Opens an archive and checks its directory.
    pub fn open(file: File, limits: &'a Limits) -> Result<Self, ArchiveError> {
        let unreadable = |_: ZipError| ArchiveError::NotAZip;
        let mut zip = ZipArchive::new(file).map_err(unreadable)?;
        let (found, max) = (zip.len() as u64, limits.archive_entries);
        if found > max {
            return Err(ArchiveError::TooManyEntries { found, max });
        }
        if zip.has_overlapping_entries().map_err(unreadable)? {
            return Err(ArchiveError::Overlapping);
        }
        if zip.has_duplicate_names() {
            return Err(ArchiveError::DuplicateNames);
        }
        Ok(Self { zip, limits, inflated: 0 })
    }

    /// The number of entries, folders included.
    pub fn len(&self) -> usize {
        self.zip.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The entry `index`; `None` for a folder.
    pub fn entry(&mut self, index: usize) -> Option<Entry> {
        let Ok(file) = self.zip.by_index_raw(index) else {
            let usable = Err(EntryError::Damaged);
            return Some(Entry { name: format!("entry {index}"), usable });
        };
        if file.is_dir() {
            return None;
        }
        let raw = file.name_raw().to_vec();
        let name: String = String::from_utf8_lossy(&raw)
            .chars()
            .map(|c| if c.is_control() { '\u{FFFD}' } else { c })
            .take(500)
            .collect();
        let usable = if raw.contains(&0) {
            Err(EntryError::BadName)
        } else if escapes(&name) || file.enclosed_name().is_none() {
            Err(EntryError::Escapes)
        } else if file.is_symlink() {
            Err(EntryError::Link)
        } else if file.encrypted() {
            Err(EntryError::Encrypted)
        } else {
            Ok(())
        };
        Some(Entry { name, usable })
    }

    /// Inflates entry `index`, counting instead of trusting what the headers say.
    pub fn read(&mut self, index: usize) -> Result<Result<Vec<u8>, EntryError>, ArchiveError> {
        self.read_if(index, |_| Ok(()))
    }

    /// Inflates entry `index` if its first bytes pass `check`; of another nothing more is inflated
    /// than those.
    pub fn read_if(
        &mut self,
        index: usize,
        check: impl Fn(&[u8]) -> Result<(), ImagingError>,
    ) -> Result<Result<Vec<u8>, EntryError>, ArchiveError> {
        let (limits, inflated) = (self.limits, self.inflated);
        let total_left = limits.archive_bytes.saturating_sub(inflated);
        let mut entry = match self.zip.by_index(index) {
            Ok(entry) => entry,
            Err(ZipError::UnsupportedArchive(reason)) if reason.contains("assword") => {
                return Ok(Err(EntryError::Encrypted));
            }
            Err(ZipError::UnsupportedArchive(_)) => return Ok(Err(EntryError::Method)),
            Err(_) => return Ok(Err(EntryError::Damaged)),
        };
        let is_volume = entry.name_raw().to_ascii_lowercase().ends_with(b".nii.gz");
        let packed = entry.compressed_size().max(1);
        let by_ratio = packed.saturating_mul(limits.archive_ratio).max(RATIO_GRACE_BYTES);
        let cap = limits.entry_bytes.min(by_ratio).min(total_left);
        let mut bytes = Vec::new();
        let start = (cap + 1).min(SNIFFED_BYTES);
        let mut read = entry.by_ref().take(start).read_to_end(&mut bytes);
        let unwanted = if is_archive(&bytes) {
            Some(if is_volume { EntryError::PackedVolume } else { EntryError::Nested })
        } else if read.is_ok() {
            check(&bytes).err().map(|error| EntryError::Unwanted(error.to_string()))
        } else {
            None
        };
        if unwanted.is_none() && read.is_ok() {
            read = entry.by_ref().take(cap + 1 - bytes.len() as u64).read_to_end(&mut bytes);
        }
        drop(entry);
        self.inflated += bytes.len() as u64;
        if let Some(unwanted) = unwanted {
            return Ok(Err(unwanted));
        }
        if read.is_err() {
            return Ok(Err(EntryError::Damaged));
        }
        if bytes.len() as u64 <= cap {
            return Ok(Ok(bytes));
        }
        if cap == total_left {
            return Err(ArchiveError::TooLarge { max: limits.archive_bytes });
        }
        Ok(Err(if cap == limits.entry_bytes {
            EntryError::TooLarge { max: limits.entry_bytes }
        } else {
            EntryError::Ratio { max: limits.archive_ratio }
        }))
    }
}

/// Whether a name leads out of the folder it is unpacked in, on any system.
fn escapes(name: &str) -> bool {
    let name = name.replace('\\', "/");
    let drive = name.as_bytes().get(1) == Some(&b':');
    name.starts_with('/') || drive || name.split('/').any(|part| part == "..")
}

/// Whether the first bytes are those of an archive.
fn is_archive(bytes: &[u8]) -> bool {
    Foreign::of(bytes).is_some_and(Foreign::is_archive)
}
