//! From an upload that has come in to blobs and rows, on a thread that may wait for the decoder.

use std::fs::File;
use std::io::Seek;
use std::ops::ControlFlow;

use time::OffsetDateTime;
use tokio::runtime::Handle;

use crate::config::Limits;
use crate::decode::{Breach, DecodeError, Pool, Stored, UploadAsk};
use crate::domain::counted::counted;
use crate::domain::dataset::UploadReport;
use crate::domain::image::{Image, shown};
use crate::domain::receipt::{Capped, Received, Refused, notices, remarks};
use crate::domain::{DatasetId, ImageId, Sha256, Split};
use crate::imaging::{Found, FrameFacts, KeptFile, PatientHasher, RejectedEntry, UploadProgress};
use crate::store::{Blob, Content, Store, StoreError, datasets, images};

/// An upload that has come in whole: an archive, or one file.
#[derive(Debug)]
pub struct Upload {
    /// The dataset that its files belong to.
    pub dataset: DatasetId,
    /// Its bytes.
    pub file: File,
    /// The name that its sender gives it.
    pub name: Option<String>,
    /// Class of files that neither a row of `labels.csv` nor a folder gives one.
    pub label: Option<String>,
    /// Patient of files that do not say.
    pub patient: Option<String>,
    /// Split of files that neither a row nor a folder gives one.
    pub split: Option<Split>,
    /// Shows how far it is, for as long as it goes on.
    pub progress: UploadProgress,
}

/// The reason why an upload was not taken in to its end.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// It is nothing that could be read.
    #[error("{0}")]
    Refused(String),
    /// The archive itself broke the process that read it.
    #[error("the upload {0}")]
    Breach(Breach),
    /// The process that reads it could not be asked, or was stopped.
    #[error(transparent)]
    Decode(DecodeError),
    /// Something could not be stored, or its dataset is gone.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It broke off when some of it was kept already, which stays.
    #[error("{cause}. {}", kept_so_far(*.images))]
    BrokenOff {
        /// The error that broke it off.
        cause: Box<IntakeError>,
        /// Images that were kept.
        images: u64,
    },
}

/// Tells how much was kept of an upload that broke off: its sender must know.
pub fn kept_so_far(images: u64) -> String {
    let images = counted(images, "image of this upload was", "images of this upload were");
    format!("{images} kept")
}

/// Takes uploads into datasets.
#[derive(Debug, Clone)]
pub struct Intake {
    store: Store,
    decoder: Pool,
    hasher: PatientHasher,
    listed_files: u64,
}

impl Intake {
    /// An intake whose reports list as many files as the limits say.
    pub fn new(store: Store, decoder: Pool, hasher: PatientHasher, limits: &Limits) -> Self {
        Self { store, decoder, hasher, listed_files: limits.listed_files }
    }

    /// Keeps what can be read of an upload. To be called on a thread that may wait.
    pub fn take_in(&self, upload: Upload) -> Result<UploadReport, IntakeError> {
        let Upload { dataset, mut file, name, label, patient, split, progress } = upload;
        file.rewind().map_err(StoreError::from)?;
        let digest = Sha256::of_reader(&mut file).map_err(StoreError::from)?;
        let known_by = self.hasher.upload(&digest);
        let ask = UploadAsk {
            name: name.unwrap_or_else(|| "upload".to_owned()),
            label,
            patient: patient.filter(|text| !text.trim().is_empty()),
            split,
            first_entry: 0,
        };
        let handle = Handle::current();
        let pool = &self.store.pool;
        let mut keeping = Keeping::new(self, dataset, progress);
        let begun = handle.block_on(datasets::begin_upload(pool, dataset, &known_by))?;
        let mut listener = |found, stored| match handle.block_on(keeping.take(found, stored)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                keeping.failure = Some(error);
                ControlFlow::Break(())
            }
        };
        let read = self.decoder.upload(&file, ask, &mut listener);
        let ended = handle.block_on(datasets::end_upload(pool, begun));
        if let Err(error) = read {
            return Err(keeping.broken_off(error));
        }
        let rejected = || {
            let rejected = datasets::reject(pool, dataset, &known_by, &keeping.rejected);
            handle.block_on(rejected)
        };
        if let Err(error) = ended.and_then(|()| rejected()) {
            return Err(keeping.kept_until(error.into()));
        }
        tracing::info!(
            dataset.id = %dataset, files = keeping.files, images = keeping.images,
            duplicates = keeping.duplicates, rejected = keeping.rejected.total(),
            "an upload was taken in"
        );
        Ok(keeping.report())
    }
}

/// Files named in a notice at most.
const CONFLICTS_SHOWN: u64 = 20;

/// The state of an upload: what was found of it and kept so far.
struct Keeping<'a> {
    intake: &'a Intake,
    dataset: DatasetId,
    /// Tells the sender how far it is.
    progress: UploadProgress,
    files: u64,
    images: u64,
    duplicates: u64,
    without_label: u64,
    without_patient: u64,
    receipt: Capped<Received>,
    rejected: Capped<Refused>,
    /// Files that were there already with another class, patient or split.
    conflicts: Capped<String>,
    /// The remarks on single files.
    remarks: Capped<String>,
    left_out: u64,
    failure: Option<StoreError>,
}

impl<'a> Keeping<'a> {
    fn new(intake: &'a Intake, dataset: DatasetId, progress: UploadProgress) -> Self {
        let listed = intake.listed_files;
        Self {
            intake,
            dataset,
            progress,
            files: 0,
            images: 0,
            duplicates: 0,
            without_label: 0,
            without_patient: 0,
            receipt: Capped::new(listed),
            rejected: Capped::new(listed),
            conflicts: Capped::new(CONFLICTS_SHOWN),
            remarks: remarks(),
            left_out: 0,
            failure: None,
        }
    }

    async fn take(&mut self, found: Found, stored: Stored) -> Result<(), StoreError> {
        match found {
            Found::Files(files) => self.progress.total(files),
            Found::Begun { .. } => self.progress.one_more(),
            Found::Kept(kept) => return self.keep(*kept, stored).await,
            Found::Rejected(RejectedEntry { entry, path, reason }) => {
                self.rejected.push_with(|| Refused::new(&path, entry, &reason));
            }
            Found::FurtherRows(rows) => self.rejected.count(rows),
            Found::LeftOut(files) => self.left_out += files,
        }
        Ok(())
    }

    /// The blob comes first: a row must never name a blob that is not there.
    async fn keep(&mut self, mut kept: KeptFile, stored: Stored) -> Result<(), StoreError> {
        let store = &self.intake.store;
        let (content, _spooled) = match stored {
            // Every kept file comes with its bytes.
            Stored::Nothing => return Ok(()),
            Stored::Memory(bytes) => (Content::Bytes(bytes.into()), None),
            Stored::Spooled(file) => (Content::File(file.path().to_owned()), Some(file)),
        };
        let blob = store.blobs.put(&content).await?;
        let patient = kept.patient.take();
        let hasher = &self.intake.hasher;
        let patient_key =
            patient.as_deref().map_or_else(|| hasher.lone(&blob.sha256), |named| hasher.key(named));
        let made = |(frame, facts): (u32, &FrameFacts)| {
            image(self.dataset, &kept, (frame, facts), (&patient_key, blob))
        };
        let pictures: Vec<Image> = (0..).zip(&kept.frames).map(made).collect();
        let original = hasher.original(&kept.original);
        let added = images::keep(store, &content, &pictures, &original).await?;
        self.files += 1;
        self.without_label += u64::from(kept.label.is_none());
        self.without_patient += u64::from(patient.is_none());
        for notice in &kept.notices {
            self.remarks.push_with(|| format!("{}: {notice}", kept.path));
        }
        self.images += added.images;
        self.duplicates += pictures.len() as u64 - added.images;
        if added.differs {
            self.conflicts.push_with(|| kept.path.clone());
        }
        self.receipt.push_with(|| Received {
            file: kept.path,
            number: added.number,
            name: shown(added.number, kept.format, 0),
            images: pictures.len() as u32,
            added: added.images as u32,
        });
        Ok(())
    }

    fn report(self) -> UploadReport {
        let general = self.general();
        UploadReport {
            files: self.files,
            images: self.images,
            duplicates: self.duplicates,
            receipt: self.receipt.into_items(),
            rejected_total: self.rejected.total(),
            rejected: self.rejected.into_items(),
            files_without_label: self.without_label,
            files_without_patient: self.without_patient,
            notices: notices(general, self.remarks),
        }
    }

    /// The notices of the upload as a whole.
    fn general(&self) -> Vec<String> {
        let mut general = Vec::new();
        if self.left_out > 0 {
            let files =
                counted(self.left_out, "hidden or text file was", "hidden or text files were");
            general.push(format!("{files} skipped"));
        }
        match self.without_label {
            0 => {}
            1 => general.push(
                "1 file has no label; it is kept, and only pretraining can learn from it".to_owned(),
            ),
            many => general.push(format!(
                "{many} files have no label; they are kept, and only pretraining can learn from them"
            )),
        }
        let advice = "Add a `patient` column to labels.csv when one patient has several images";
        match self.without_patient {
            0 => {}
            1 => general.push(format!(
                "1 file names no patient; it counts as a patient of its own. {advice}"
            )),
            many => general.push(format!(
                "{many} files name no patient; each counts as a patient of its own. {advice}"
            )),
        }
        general.extend(self.conflict());
        general
    }

    /// Tells of pictures that were there already and that this upload says something else of.
    fn conflict(&self) -> Option<String> {
        let and_more = match self.conflicts.left_out() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let (verb, keep) =
            if self.conflicts.total() == 1 { ("was", "it keeps") } else { ("were", "they keep") };
        (self.conflicts.total() > 0).then(|| {
            format!(
                "{}{and_more} {verb} here already with another class, patient or split, which {keep}; \
                 delete the images first to change that",
                self.conflicts.items().join(", ")
            )
        })
    }

    /// The reason why the upload was not read to its end, and what was kept of it before.
    fn broken_off(mut self, error: DecodeError) -> IntakeError {
        let cause = match (error, self.failure.take()) {
            // Of a dataset that is gone nothing is kept.
            (DecodeError::Stopped, Some(failure @ StoreError::Gone(_))) => return failure.into(),
            (DecodeError::Stopped, Some(failure)) => failure.into(),
            (DecodeError::Refused(reason), _) => IntakeError::Refused(reason),
            (DecodeError::Breach(breach), _) => IntakeError::Breach(breach),
            (error @ (DecodeError::Stopped | DecodeError::Io(_)), _) => IntakeError::Decode(error),
        };
        self.kept_until(cause)
    }

    /// The cause, and how much was kept before it.
    fn kept_until(&self, cause: IntakeError) -> IntakeError {
        match self.images {
            0 => cause,
            images => IntakeError::BrokenOff { cause: Box::new(cause), images },
        }
    }
}

fn image(
    dataset: DatasetId,
    kept: &KeptFile,
    (frame, facts): (u32, &FrameFacts),
    (patient_key, blob): (&str, Blob),
) -> Image {
    Image {
        id: ImageId::new(),
        dataset,
        // The database knows.
        number: 0,
        frame,
        label: kept.label.clone(),
        patient_key: patient_key.to_owned(),
        split: kept.split,
        format: kept.format,
        width: facts.width,
        height: facts.height,
        modality: facts.modality.clone(),
        window: facts.window,
        blob: blob.sha256,
        size_bytes: blob.size_bytes,
        // The database's clock decides; this one is not stored.
        created_at: OffsetDateTime::UNIX_EPOCH,
    }
}
