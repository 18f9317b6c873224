//! One upload, a single file or a ZIP, read file by file: what is found is told as it is found.
//!
//! This runs where a file may break the process that reads it. Whoever listens knows from what was
//! told which file that was, and can have the rest read by another process.

use std::fs::File;
use std::io::{Read, Seek};
use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use super::SNIFFED_BYTES;
use super::archive::{Archive, ArchiveError, EntryError};
use super::intake::{FrameFacts, known, take_in};
use super::labels::{self, BadLabels, Labelled, Table};
use crate::config::Limits;
use crate::domain::image::Format;
use crate::domain::{Sha256, Split};

/// The context that applies to a whole upload.
#[derive(Debug)]
pub struct UploadContext<'a> {
    /// The limits.
    pub limits: &'a Limits,
    /// Class of a file that neither a row nor a folder gives one.
    pub label: Option<String>,
    /// Patient of the files that do not say.
    pub patient: Option<String>,
    /// Split of a file that neither a row nor a folder gives one.
    pub split: Option<Split>,
    /// The first entry of an archive that is read; what stands before it has been told already.
    pub first_entry: u64,
}

/// A file that was read and may be stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeptFile {
    /// Its place in the upload, counted from 1.
    pub entry: u64,
    /// Its path as the caller named it; for the caller's eyes only.
    pub path: String,
    /// The format of it.
    pub format: Format,
    /// Digest of the file as it was uploaded.
    pub original: Sha256,
    /// The de-identified original; empty where its bytes travel beside this.
    #[serde(skip)]
    pub stored: Vec<u8>,
    /// Class.
    pub label: Option<String>,
    /// The patient as labels, file or caller name them; never to be stored or shown.
    pub patient: Option<String>,
    /// Split asked for.
    pub split: Option<Split>,
    /// Its pictures.
    pub frames: Vec<FrameFacts>,
    /// The notices that a person should have about it.
    pub notices: Vec<String>,
}

/// A file that could not be taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectedEntry {
    /// Its place in the upload, counted from 1; that of the labels for a row without a file.
    pub entry: u64,
    /// Its path as the caller named it; for the caller's eyes only.
    pub path: String,
    /// The reason why it was not taken; quotes nothing of the file or of its name.
    pub reason: String,
}

/// The findings of reading an upload, in the order in which they are found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Found {
    /// The number of files to be read.
    Files(u64),
    /// The work on a file begins.
    Begun {
        /// Its place in the upload, counted from 1.
        entry: u64,
        /// Its path as the caller named it.
        path: String,
    },
    /// A file was read and may be stored.
    Kept(Box<KeptFile>),
    /// A file could not be taken.
    Rejected(RejectedEntry),
    /// So many further rows of labels name files that are not in the archive.
    FurtherRows(u64),
    /// So many hidden files and texts for people were left out.
    LeftOut(u64),
}

/// Takes what is found; breaking stops the reading.
pub type Listener<'a> = dyn FnMut(Found) -> ControlFlow<()> + 'a;

/// The reason why an upload is refused as a whole.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// There was no body.
    #[error("the upload is empty")]
    Empty,
    /// The archive cannot be used.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The labels cannot be used.
    #[error(transparent)]
    Labels(#[from] BadLabels),
    /// Whoever listens asked to stop.
    #[error("the upload was stopped")]
    Stopped,
    /// The spooled upload could not be read.
    #[error("the upload could not be read back: {0}")]
    Io(#[from] std::io::Error),
}

/// Reads an upload that was spooled to `file`; `name` is what the client called it.
pub fn read_upload(
    mut file: File,
    name: &str,
    context: &UploadContext<'_>,
    listener: &mut Listener<'_>,
) -> Result<(), UploadError> {
    let mut start = Vec::new();
    file.rewind()?;
    file.by_ref().take(4).read_to_end(&mut start)?;
    file.rewind()?;
    if start.is_empty() {
        return Err(UploadError::Empty);
    }
    let mut reading = Reading { context, listener };
    // `PK` and 3, 4 starts an archive; `PK` and 5, 6 is one without entries.
    if start == b"PK\x03\x04" || start == b"PK\x05\x06" {
        return reading.archive(Archive::open(file, context.limits)?);
    }
    if name.to_ascii_lowercase().ends_with(".zip") {
        return Err(ArchiveError::NotAZip.into());
    }
    // The one file has been told of already.
    if context.first_entry > 1 {
        return Ok(());
    }
    reading.tell(Found::Files(1))?;
    reading.tell(Found::Begun { entry: 1, path: name.to_owned() })?;
    match lone_file(file, context.limits)? {
        Ok(bytes) => reading.file(1, name, &bytes, Labelled::default()),
        Err(reason) => reading.reject(1, name, reason),
    }
}

/// The bytes of an upload that is one file, unless it is too large or nothing that is read here.
fn lone_file(mut file: File, limits: &Limits) -> Result<Result<Vec<u8>, String>, UploadError> {
    let mut bytes = Vec::new();
    file.by_ref().take(SNIFFED_BYTES).read_to_end(&mut bytes)?;
    if let Err(error) = known(&bytes) {
        return Ok(Err(error.to_string()));
    }
    let left = (limits.entry_bytes + 1).saturating_sub(bytes.len() as u64);
    file.take(left).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limits.entry_bytes {
        return Ok(Err(EntryError::TooLarge { max: limits.entry_bytes }.to_string()));
    }
    Ok(Ok(bytes))
}

struct Reading<'a, 'b> {
    context: &'a UploadContext<'b>,
    listener: &'a mut Listener<'b>,
}

impl Reading<'_, '_> {
    fn archive(&mut self, mut archive: Archive<'_>) -> Result<(), UploadError> {
        let (mut entries, mut refused) = (Vec::new(), Vec::new());
        let mut left_out = 0;
        for index in 0..archive.len() {
            let Some(entry) = archive.entry(index) else { continue };
            match entry.usable {
                Err(error) => refused.push((index, entry.name, error)),
                Ok(()) if is_clutter(&entry.name) => left_out += 1,
                Ok(()) => entries.push((index, entry.name.replace('\\', "/"))),
            }
        }
        if entries.is_empty() && refused.is_empty() {
            return Err(ArchiveError::Empty.into());
        }
        let root = common_root(entries.iter().map(|(_, name)| name.as_str()));
        let (mut table, table_entry) = self.table(&mut archive, &mut entries, &root)?.unzip();
        for (index, name, error) in refused {
            let path = name.replace('\\', "/");
            // Its row was found; it is the file that cannot be used.
            let _ = table.as_mut().and_then(|table| table.find(within(&path, &root)));
            if self.context.first_entry == 0 {
                self.reject(place(index), &name, error.to_string())?;
            }
        }
        self.tell(Found::Files(entries.len() as u64))?;
        for (index, name) in entries {
            let path = within(&name, &root);
            let labelled = match &mut table {
                Some(table) => Ok(table.find(path).unwrap_or_default()),
                None => labels::from_folders(path),
            };
            let entry = place(index);
            if entry < self.context.first_entry {
                continue;
            }
            self.tell(Found::Begun { entry, path: name.clone() })?;
            match labelled {
                Err(error) => self.reject(entry, &name, error)?,
                Ok(labelled) => match archive.read_if(index, |start| known(start).map(drop))? {
                    Ok(bytes) => self.file(entry, &name, &bytes, labelled)?,
                    Err(error) => self.reject(entry, &name, error.to_string())?,
                },
            }
        }
        if let (Some(table), Some(entry)) = (&table, table_entry) {
            self.unused_rows(table, entry)?;
        }
        if left_out > 0 {
            self.tell(Found::LeftOut(left_out))?;
        }
        Ok(())
    }

    /// Tells of the rows of labels that no file was found for.
    fn unused_rows(&mut self, table: &Table, entry: u64) -> Result<(), UploadError> {
        let listed = self.context.limits.listed_files as usize;
        let mut unused = table.unused();
        for (row, file) in unused.by_ref().take(listed) {
            let reason =
                format!("labels.csv row {row} names this file, which is not in the archive");
            self.reject(entry, file, reason)?;
        }
        let further = unused.count() as u64;
        if further > 0 { self.tell(Found::FurtherRows(further)) } else { Ok(()) }
    }

    /// Takes `labels.csv` out of the entries, if there is one beside the images, with its place.
    fn table(
        &self,
        archive: &mut Archive<'_>,
        entries: &mut Vec<(usize, String)>,
        root: &str,
    ) -> Result<Option<(Table, u64)>, UploadError> {
        let is_table = |name: &str| {
            name.strip_prefix(root).is_some_and(|rest| rest.eq_ignore_ascii_case(labels::FILE_NAME))
        };
        let Some(at) = entries.iter().position(|(_, name)| is_table(name)) else {
            return Ok(None);
        };
        let (index, _) = entries.remove(at);
        let bytes = archive.read(index)?.map_err(|error| BadLabels::Columns(error.to_string()))?;
        Ok(Some((Table::parse(&bytes, self.context.limits.label_rows)?, place(index))))
    }

    fn file(
        &mut self,
        entry: u64,
        path: &str,
        bytes: &[u8],
        labelled: Labelled,
    ) -> Result<(), UploadError> {
        let taken = match take_in(bytes, self.context.limits) {
            Ok(taken) => taken,
            Err(error) => return self.reject(entry, path, error.to_string()),
        };
        let context = self.context;
        let label = labelled.label.or_else(|| context.label.clone());
        let said = || taken.identifiers.patient().map(str::to_owned);
        let patient = labelled.patient.clone().or_else(said).or_else(|| context.patient.clone());
        // Tables that take each file for a patient say nothing of one, and their folders name classes.
        let given = labelled.patient.as_deref().filter(|patient| !is_path_of(patient, path));
        let identifiers = taken.identifiers.and(given).and(context.patient.as_deref());
        if label.as_deref().is_some_and(|label| identifiers.are_told_by(label)) {
            return self.reject(entry, path, LABEL_TELLS.to_owned());
        }
        self.tell(Found::Kept(Box::new(KeptFile {
            entry,
            path: path.to_owned(),
            format: taken.format,
            original: Sha256::of(bytes),
            label,
            patient,
            split: labelled.split.or(self.context.split),
            stored: taken.stored,
            frames: taken.frames,
            notices: taken.notices,
        })))
    }

    fn reject(&mut self, entry: u64, path: &str, reason: String) -> Result<(), UploadError> {
        self.tell(Found::Rejected(RejectedEntry { entry, path: path.to_owned(), reason }))
    }

    fn tell(&mut self, found: Found) -> Result<(), UploadError> {
        if (self.listener)(found).is_break() { Err(UploadError::Stopped) } else { Ok(()) }
    }
}

/// Whether a text is the path of a file, as its table writes it.
fn is_path_of(text: &str, path: &str) -> bool {
    let text = text.trim().replace('\\', "/");
    let text = text.trim_start_matches("./");
    text.contains('/') && path.replace('\\', "/").ends_with(text)
}

/// The reason why a file is refused whose class would be the name of a patient, and what to do about
/// it.
const LABEL_TELLS: &str = "its label holds a name, a number or the birth date of its patient, and a \
    label is stored with every version and model. Name the class by what the picture shows, as its \
    folder or in the column `label` of labels.csv; folders named after patients make no classes";

/// The place where an entry stands in its archive, counted from 1.
fn place(index: usize) -> u64 {
    index as u64 + 1
}

/// The part of an entry's name below the common root.
fn within<'a>(name: &'a str, root: &str) -> &'a str {
    name.strip_prefix(root).unwrap_or(name)
}

/// Files that every archive tool leaves behind, and texts for people.
fn is_clutter(name: &str) -> bool {
    let hidden = name.replace('\\', "/").split('/').any(|part| {
        part.starts_with('.') || part == "__MACOSX" || part == "Thumbs.db" || part == "desktop.ini"
    });
    let base = name.rsplit(['/', '\\']).next().unwrap_or(name).to_ascii_lowercase();
    let text = [".txt", ".md", ".pdf", ".html"].iter().any(|end| base.ends_with(end));
    let is_note = base == "license" || base == "readme" || base == "dicomdir";
    hidden || is_note || (text && (base.starts_with("license") || base.starts_with("readme")))
}

/// The single folder that holds everything, with its slash; empty when there is none. A folder
/// that holds files of its own beside no other folder is a class, and stays.
fn common_root<'a>(names: impl Iterator<Item = &'a str> + Clone) -> String {
    let mut root: Option<&str> = None;
    for name in names.clone() {
        match (name.split_once('/'), root) {
            (Some((first, _)), None) => root = Some(first),
            (Some((first, _)), Some(known)) if first == known => {}
            _ => return String::new(),
        }
    }
    let Some(root) = root else { return String::new() };
    let inner = |name: &str| name[root.len() + 1..].contains('/');
    let has_table =
        names.clone().any(|name| name[root.len() + 1..].eq_ignore_ascii_case(labels::FILE_NAME));
    let is_split = root.parse::<Split>().is_ok();
    let mut names = names;
    if has_table || (!is_split && names.any(inner)) { format!("{root}/") } else { String::new() }
}
