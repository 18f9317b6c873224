//! One upload, a single file or a ZIP: what can be read is kept, the rest is listed with a reason.

use std::fs::File;
use std::io::{Read, Seek};
use std::ops::ControlFlow;

use super::archive::{Archive, ArchiveError, EntryError};
use super::intake::{FrameFacts, take_in};
use super::labels::{self, BadLabels, Labelled, Table};
use super::patient::{Identifiers, PatientHasher};
use super::progress::UploadProgress;
use crate::config::Limits;
use crate::domain::dataset::RejectedFile;
use crate::domain::image::Format;
use crate::domain::{Sha256, Split};

/// What applies to a whole upload.
#[derive(Debug)]
pub struct UploadContext<'a> {
    /// The limits.
    pub limits: &'a Limits,
    /// Makes patient keys.
    pub hasher: &'a PatientHasher,
    /// Class of a file that neither a row nor a folder gives one.
    pub label: Option<String>,
    /// Patient of the files that do not say.
    pub patient: Option<String>,
    /// Split of a file that neither a row nor a folder gives one.
    pub split: Option<Split>,
    /// Told of each file that was read.
    pub progress: UploadProgress,
}

/// A file that was read and may be stored.
#[derive(Debug, Clone)]
pub struct KeptFile {
    /// Its name, identifiers of the patient masked.
    pub file: String,
    /// What it is.
    pub format: Format,
    /// The de-identified original.
    pub stored: Vec<u8>,
    /// Digest of `stored`.
    pub blob: Sha256,
    /// Class.
    pub label: Option<String>,
    /// Groups the images of one patient.
    pub patient_key: String,
    /// Split asked for.
    pub split: Option<Split>,
    /// Its pictures.
    pub frames: Vec<FrameFacts>,
}

/// What became of an upload, beside the files that were kept.
#[derive(Debug, Default)]
pub struct UploadSummary {
    /// Files kept.
    pub files: u64,
    /// Files that could not be taken.
    pub rejected: Vec<RejectedFile>,
    /// What a person should know.
    pub notices: Vec<String>,
}

/// Why an upload is refused as a whole.
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
    /// Whoever keeps the files asked to stop.
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
    keep: &mut dyn FnMut(KeptFile) -> ControlFlow<()>,
) -> Result<UploadSummary, UploadError> {
    let mut start = Vec::new();
    file.rewind()?;
    file.by_ref().take(4).read_to_end(&mut start)?;
    file.rewind()?;
    if start.is_empty() {
        return Err(UploadError::Empty);
    }
    let mut reading = Reading { context, keep, summary: UploadSummary::default(), lone: 0 };
    // `PK` and 3, 4 starts an archive; `PK` and 5, 6 is one without entries.
    if start == b"PK\x03\x04" || start == b"PK\x05\x06" {
        reading.archive(Archive::open(file, context.limits)?)?;
    } else if name.to_ascii_lowercase().ends_with(".zip") {
        return Err(ArchiveError::NotAZip.into());
    } else {
        context.progress.total(1);
        let mut bytes = Vec::new();
        file.take(context.limits.entry_bytes + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > context.limits.entry_bytes {
            let max = context.limits.entry_bytes;
            let reason = EntryError::TooLarge { max }.to_string();
            reading.reject(name, None, reason);
        } else {
            reading.file(name, &bytes, Labelled::default())?;
        }
        context.progress.one_more();
    }
    Ok(reading.finish())
}

struct Reading<'a, 'b> {
    context: &'a UploadContext<'b>,
    keep: &'a mut dyn FnMut(KeptFile) -> ControlFlow<()>,
    summary: UploadSummary,
    /// Files that name no patient.
    lone: u64,
}

impl Reading<'_, '_> {
    fn archive(&mut self, mut archive: Archive<'_>) -> Result<(), UploadError> {
        let (mut entries, mut refused) = (Vec::new(), Vec::new());
        let mut skipped = 0;
        for index in 0..archive.len() {
            let Some(entry) = archive.entry(index) else { continue };
            match entry.usable {
                Err(error) => refused.push((entry.name, error)),
                Ok(()) if is_clutter(&entry.name) => skipped += 1,
                Ok(()) => entries.push((index, entry.name.replace('\\', "/"))),
            }
        }
        if entries.is_empty() && refused.is_empty() {
            return Err(ArchiveError::Empty.into());
        }
        let root = common_root(entries.iter().map(|(_, name)| name.as_str()));
        let mut table = self.table(&mut archive, &mut entries, &root)?;
        // Only now is it known whom the table says they show.
        for (name, error) in refused {
            let path = name.replace('\\', "/");
            let row = table.as_mut().and_then(|table| table.find(within(&path, &root)));
            self.reject(&name, row.and_then(|row| row.patient).as_deref(), error.to_string());
        }
        let mut unlabelled = 0;
        self.context.progress.total(entries.len() as u64);
        for (index, name) in entries {
            self.context.progress.one_more();
            let bytes = match archive.read(index)? {
                Ok(bytes) => bytes,
                Err(error) => {
                    // Its row was found; it is the file that cannot be used.
                    let row = table.as_mut().and_then(|table| table.find(within(&name, &root)));
                    let patient = row.and_then(|row| row.patient);
                    self.reject(&name, patient.as_deref(), error.to_string());
                    continue;
                }
            };
            let labelled = match &mut table {
                Some(table) => Ok(table.find(&name[root.len()..]).unwrap_or_default()),
                None => labels::from_folders(&name[root.len()..]),
            };
            match labelled {
                Err(error) => self.reject(&name, None, error),
                Ok(labelled) => {
                    unlabelled +=
                        u64::from(labelled.label.is_none() && self.context.label.is_none());
                    self.file(&name, &bytes, labelled)?;
                }
            }
        }
        for (row, file, patient) in table.iter().flat_map(Table::unused) {
            let reason =
                format!("labels.csv row {row} names this file, which is not in the archive");
            self.reject(file, patient, reason);
        }
        if skipped > 0 {
            self.summary.notices.push(format!(
                "{} skipped",
                counted(skipped, "hidden or text file was", "hidden or text files were")
            ));
        }
        if unlabelled > 0 {
            self.summary.notices.push(format!(
                "{} no label; only pretraining can learn from images without one",
                counted(unlabelled, "file has", "files have")
            ));
        }
        Ok(())
    }

    /// Takes `labels.csv` out of the entries, if there is one beside the images.
    fn table(
        &self,
        archive: &mut Archive<'_>,
        entries: &mut Vec<(usize, String)>,
        root: &str,
    ) -> Result<Option<Table>, UploadError> {
        let is_table = |name: &str| {
            name.strip_prefix(root).is_some_and(|rest| rest.eq_ignore_ascii_case(labels::FILE_NAME))
        };
        let Some(at) = entries.iter().position(|(_, name)| is_table(name)) else {
            return Ok(None);
        };
        let (index, _) = entries.remove(at);
        let bytes = archive.read(index)?.map_err(|error| BadLabels::Columns(error.to_string()))?;
        Ok(Some(Table::parse(&bytes, self.context.limits.label_rows)?))
    }

    fn file(&mut self, name: &str, bytes: &[u8], labelled: Labelled) -> Result<(), UploadError> {
        let taken = match take_in(bytes, self.context.limits) {
            Ok(taken) => taken,
            Err(error) => {
                // What does not decode may still say in its first elements whom it shows.
                let named = super::salvage::identifiers(bytes).mask(name);
                self.reject(&named, labelled.patient.as_deref(), error.to_string());
                return Ok(());
            }
        };
        let blob = Sha256::of(&taken.stored);
        let named = labelled
            .patient
            .as_deref()
            .or(taken.identifiers.patient())
            .or(self.context.patient.as_deref());
        let patient_key = match named {
            Some(patient) => self.context.hasher.key(patient),
            None => {
                self.lone += 1;
                self.context.hasher.lone(&blob)
            }
        };
        let masked = self.mask(&taken.identifiers.mask(name), labelled.patient.as_deref());
        for notice in &taken.notices {
            self.summary.notices.push(format!("{masked}: {notice}"));
        }
        self.summary.files += 1;
        let kept = KeptFile {
            file: masked,
            format: taken.format,
            stored: taken.stored,
            blob,
            label: labelled.label.or_else(|| self.context.label.clone()),
            patient_key,
            split: labelled.split.or(self.context.split),
            frames: taken.frames,
        };
        if (self.keep)(kept).is_break() { Err(UploadError::Stopped) } else { Ok(()) }
    }

    fn reject(&mut self, name: &str, patient: Option<&str>, reason: String) {
        let file = self.mask(name, patient);
        self.summary.rejected.push(RejectedFile { file, reason });
    }

    /// A name without the patient that its row, or the caller, says it is of.
    fn mask(&self, name: &str, patient: Option<&str>) -> String {
        let known = patient.into_iter().chain(self.context.patient.as_deref());
        Identifiers::new(None, known.map(str::to_owned)).mask(name)
    }

    fn finish(mut self) -> UploadSummary {
        if self.lone > 0 {
            self.summary.notices.push(format!(
                "{} no patient and count as one patient each. Add a `patient` column to labels.csv \
                 when one patient has several images",
                counted(self.lone, "file names", "files name")
            ));
        }
        self.summary
    }
}

/// A number with what it counts.
fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
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
