//! One upload, a single file or a ZIP: what can be read is kept, the rest is listed with a reason.

use std::fs::File;
use std::io::{Read, Seek};
use std::ops::ControlFlow;

use super::archive::{Archive, ArchiveError};
use super::intake::{FrameFacts, take_in};
use super::labels::{self, BadLabels, Labelled, Table};
use super::patient::PatientHasher;
use crate::config::Limits;
use crate::domain::counted::counted;
use crate::domain::image::Format;
use crate::domain::receipt::{Capped, Refused, notices, remarks};
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
}

/// A file that was read and may be stored.
#[derive(Debug, Clone)]
pub struct KeptFile {
    /// Its path in the upload, for the answer only; never to be stored.
    pub file: String,
    /// Its place in the upload, counted from 1.
    pub entry: u64,
    /// Digest of the file as it came; never to be stored as it is.
    pub original: Sha256,
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
#[derive(Debug)]
pub struct UploadSummary {
    /// Files kept.
    pub files: u64,
    /// Files kept that have no label.
    pub without_label: u64,
    /// Files kept that name no patient.
    pub without_patient: u64,
    /// Files that could not be taken.
    pub rejected: Capped<Refused>,
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
    let summary = UploadSummary {
        files: 0,
        without_label: 0,
        without_patient: 0,
        rejected: Capped::new(context.limits.listed_files),
        notices: Vec::new(),
    };
    let mut reading = Reading { context, keep, summary, remarks: remarks() };
    // `PK` and 3, 4 starts an archive; `PK` and 5, 6 is one without entries.
    if start == b"PK\x03\x04" || start == b"PK\x05\x06" {
        reading.archive(Archive::open(file, context.limits)?)?;
    } else {
        let mut bytes = Vec::new();
        file.take(context.limits.entry_bytes + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > context.limits.entry_bytes {
            let max = context.limits.entry_bytes;
            let reason = format!("has more than {max} bytes (LVMED_LIMIT_ENTRY_BYTES)");
            reading.reject(name, 1, &reason);
        } else {
            reading.file(name, 1, &bytes, Labelled::default())?;
        }
    }
    Ok(reading.finish())
}

struct Reading<'a, 'b> {
    context: &'a UploadContext<'b>,
    keep: &'a mut dyn FnMut(KeptFile) -> ControlFlow<()>,
    summary: UploadSummary,
    /// What is to be known of single files.
    remarks: Capped<String>,
}

impl Reading<'_, '_> {
    fn archive(&mut self, mut archive: Archive<'_>) -> Result<(), UploadError> {
        let (mut entries, mut refused) = (Vec::new(), Vec::new());
        let mut skipped = 0;
        for index in 0..archive.len() {
            let Some(entry) = archive.entry(index) else { continue };
            match entry.usable {
                Err(error) => refused.push((index, entry.name, error)),
                Ok(()) if is_clutter(&entry.name) => skipped += 1,
                Ok(()) => entries.push((index, entry.name.replace('\\', "/"))),
            }
        }
        if entries.is_empty() && refused.is_empty() {
            return Err(ArchiveError::Empty.into());
        }
        let root = common_root(entries.iter().map(|(_, name)| name.as_str()));
        let (mut table, table_entry) = self.table(&mut archive, &mut entries, &root)?.unzip();
        for (index, name, error) in refused {
            // Its row is found; it is the file that cannot be used.
            let path = name.replace('\\', "/");
            let _ = table.as_mut().and_then(|table| table.find(within(&path, &root)));
            self.reject(&name, place(index), &error.to_string());
        }
        for (index, name) in entries {
            let bytes = match archive.read(index)? {
                Ok(bytes) => bytes,
                Err(error) => {
                    let _ = table.as_mut().and_then(|table| table.find(within(&name, &root)));
                    self.reject(&name, place(index), &error.to_string());
                    continue;
                }
            };
            let labelled = match &mut table {
                Some(table) => Ok(table.find(&name[root.len()..]).unwrap_or_default()),
                None => labels::from_folders(&name[root.len()..]),
            };
            match labelled {
                Err(error) => self.reject(&name, place(index), &error),
                Ok(labelled) => self.file(&name, place(index), &bytes, labelled)?,
            }
        }
        for (row, file) in table.iter().flat_map(Table::unused) {
            let reason =
                format!("labels.csv row {row} names this file, which is not in the archive");
            self.reject(file, table_entry.unwrap_or_default(), &reason);
        }
        if skipped > 0 {
            let files = counted(skipped, "hidden or text file was", "hidden or text files were");
            self.summary.notices.push(format!("{files} skipped"));
        }
        Ok(())
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
        name: &str,
        entry: u64,
        bytes: &[u8],
        labelled: Labelled,
    ) -> Result<(), UploadError> {
        let taken = match take_in(bytes, self.context.limits) {
            Ok(taken) => taken,
            Err(error) => {
                self.reject(name, entry, &error.to_string());
                return Ok(());
            }
        };
        let context = self.context;
        let label = labelled.label.or_else(|| context.label.clone());
        let given = labelled.patient.as_deref();
        let named = given.or(taken.identifiers.patient()).or(context.patient.as_deref());
        let blob = Sha256::of(&taken.stored);
        let patient_key =
            named.map_or_else(|| context.hasher.lone(&blob), |patient| context.hasher.key(patient));
        let is_lone = named.is_none();
        let identifiers = taken.identifiers.and(given).and(context.patient.as_deref());
        if label.as_deref().is_some_and(|label| identifiers.are_told_by(label)) {
            self.reject(name, entry, LABEL_TELLS);
            return Ok(());
        }
        for notice in &taken.notices {
            self.remarks.push_with(|| format!("{name}: {notice}"));
        }
        self.summary.files += 1;
        self.summary.without_label += u64::from(label.is_none());
        self.summary.without_patient += u64::from(is_lone);
        let kept = KeptFile {
            file: name.to_owned(),
            entry,
            original: Sha256::of(bytes),
            format: taken.format,
            stored: taken.stored,
            blob,
            label,
            patient_key,
            split: labelled.split.or(context.split),
            frames: taken.frames,
        };
        if (self.keep)(kept).is_break() { Err(UploadError::Stopped) } else { Ok(()) }
    }

    fn reject(&mut self, name: &str, entry: u64, reason: &str) {
        self.summary.rejected.push_with(|| Refused::new(name, entry, reason));
    }

    fn finish(mut self) -> UploadSummary {
        let UploadSummary { without_label, without_patient, .. } = self.summary;
        let general = &mut self.summary.notices;
        match without_label {
            0 => {}
            1 => general.push(
                "1 file has no label; it is kept, and only pretraining can learn from it".to_owned(),
            ),
            many => general.push(format!(
                "{many} files have no label; they are kept, and only pretraining can learn from them"
            )),
        }
        let advice = "Add a `patient` column to labels.csv when one patient has several images";
        match without_patient {
            0 => {}
            1 => general.push(format!(
                "1 file names no patient; it counts as a patient of its own. {advice}"
            )),
            many => general.push(format!(
                "{many} files name no patient; each counts as a patient of its own. {advice}"
            )),
        }
        self.summary.notices = notices(std::mem::take(general), self.remarks);
        self.summary
    }
}

/// Why a file is refused whose class would be the name of a patient, and what to do about it.
const LABEL_TELLS: &str = "its label holds a name, a number or the birth date of its patient, and a \
    label is stored with every version and model. Name the class by what the picture shows, as its \
    folder or in the column `label` of labels.csv; folders named after patients make no classes";

/// Where an entry stands in its archive, counted from 1.
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
