//! From a spooled upload to blobs and rows, on a thread that may wait for the decoder.

use std::fs::File;
use std::io::Seek;
use std::ops::ControlFlow;

use time::OffsetDateTime;
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;

use super::uploads::UploadQuery;
use crate::decode::{DecodeError, Stored, UploadAsk};
use crate::domain::counted::counted;
use crate::domain::dataset::UploadReport;
use crate::domain::image::{Image, shown};
use crate::domain::receipt::{Capped, Received, Refused, notices, remarks};
use crate::domain::{DatasetId, ImageId, Sha256};
use crate::http::app::App;
use crate::http::wire::problem::{Code, Problem};
use crate::http::wire::underway::Watched;
use crate::imaging::{Found, FrameFacts, KeptFile, RejectedEntry, UploadProgress};
use crate::store::{Blob, Content, StoreError, datasets, images};

/// An upload that has come in whole.
#[derive(Debug)]
pub struct Upload {
    /// Where its files belong.
    pub dataset: DatasetId,
    /// Its bytes.
    pub file: File,
    /// What applies to files that do not say it themselves.
    pub query: UploadQuery,
    /// Its place among the uploads that go on at the same time.
    pub place: OwnedSemaphorePermit,
    /// Shows how far it is, for as long as it goes on.
    pub watched: Watched,
}

/// Keeps what can be read of an upload. Once begun it goes to the end, with or without its caller.
pub async fn take_in(app: &App, upload: Upload) -> Result<UploadReport, Problem> {
    let app = app.clone();
    tokio::task::spawn_blocking(move || read(&app, upload)).await?
}

fn read(app: &App, upload: Upload) -> Result<UploadReport, Problem> {
    let Upload { dataset, mut file, query, place, watched } = upload;
    file.rewind().map_err(StoreError::from)?;
    let digest = Sha256::of_reader(&mut file).map_err(StoreError::from)?;
    let known_by = app.hasher.upload(&digest);
    let ask = UploadAsk {
        name: query.file.unwrap_or_else(|| "upload".to_owned()),
        label: query.label,
        patient: query.patient.filter(|text| !text.trim().is_empty()),
        split: query.split,
        first_entry: 0,
    };
    let handle = Handle::current();
    let mut keeping = Keeping::new(app, dataset, watched.progress());
    let begun = handle.block_on(datasets::begin_upload(&app.store.pool, dataset, &known_by))?;
    let mut listener = |found, stored| match handle.block_on(keeping.take(found, stored)) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            keeping.failure = Some(error);
            ControlFlow::Break(())
        }
    };
    let read = app.decoder.upload(&file, ask, &mut listener);
    handle.block_on(datasets::end_upload(&app.store.pool, begun))?;
    if let Err(error) = read {
        return Err(keeping.broken_off(error));
    }
    let rejected = datasets::reject(&app.store.pool, dataset, &known_by, &keeping.rejected);
    handle.block_on(rejected)?;
    drop((place, watched));
    tracing::info!(
        dataset.id = %dataset, files = keeping.files, images = keeping.images,
        duplicates = keeping.duplicates, rejected = keeping.rejected.total(),
        "an upload was taken in"
    );
    Ok(keeping.report())
}

/// Files named in a notice at most.
const CONFLICTS_SHOWN: u64 = 20;

/// What was found of an upload and kept of it so far.
struct Keeping<'a> {
    app: &'a App,
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
    /// What is to be known of single files.
    remarks: Capped<String>,
    left_out: u64,
    failure: Option<StoreError>,
}

impl<'a> Keeping<'a> {
    fn new(app: &'a App, dataset: DatasetId, progress: UploadProgress) -> Self {
        let listed = app.limits.listed_files;
        Self {
            app,
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
        let store = &self.app.store;
        let (content, _spooled) = match stored {
            // Every kept file comes with its bytes.
            Stored::Nothing => return Ok(()),
            Stored::Memory(bytes) => (Content::Bytes(bytes.into()), None),
            Stored::Spooled(file) => (Content::File(file.path().to_owned()), Some(file)),
        };
        let blob = store.blobs.put(&content).await?;
        let patient = kept.patient.take();
        let hasher = &self.app.hasher;
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

    /// What is to be known of the upload as a whole.
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

    /// The problem of an upload that was not read to its end.
    fn broken_off(mut self, error: DecodeError) -> Problem {
        let problem = match (error, self.failure.take()) {
            // Of a dataset that is gone nothing is kept.
            (DecodeError::Stopped, Some(failure @ StoreError::Gone(_))) => return failure.into(),
            (DecodeError::Stopped, Some(failure)) => failure.into(),
            (DecodeError::Refused(reason), _) => Problem::new(Code::Invalid, reason),
            (DecodeError::Breach(breach), _) => {
                Problem::new(Code::Invalid, format!("the upload {breach}"))
            }
            (error @ (DecodeError::Stopped | DecodeError::Io(_)), _) => error.into(),
        };
        self.told(problem)
    }

    /// What was kept before the upload broke off stays: the caller must know.
    fn told(&self, problem: Problem) -> Problem {
        match self.images {
            0 => problem,
            kept => {
                let images =
                    counted(kept, "image of this upload was", "images of this upload were");
                problem.adding(format!("{images} kept"))
            }
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
