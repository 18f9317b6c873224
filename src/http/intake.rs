//! From a spooled upload to blobs and rows, on a thread that may wait for the decoder.

use std::fs::File;
use std::ops::ControlFlow;

use time::OffsetDateTime;
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;

use super::App;
use super::problem::{Code, Problem};
use super::uploads::UploadQuery;
use crate::decode::{DecodeError, Stored, UploadAsk};
use crate::domain::dataset::{RejectedFile, UploadReport};
use crate::domain::image::Image;
use crate::domain::{DatasetId, ImageId};
use crate::imaging::{Found, FrameFacts, KeptFile, RejectedEntry};
use crate::store::{Blob, Content, StoreError, datasets, images};

/// Raw bytes.
#[derive(Debug, utoipa::ToSchema)]
#[schema(value_type = String, format = Binary)]
pub struct Bytes(#[expect(dead_code, reason = "only its schema is used")] Vec<u8>);

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
}

/// Keeps what can be read of an upload. Once begun it goes to the end, with or without its caller.
pub async fn take_in(app: &App, upload: Upload) -> Result<UploadReport, Problem> {
    let app = app.clone();
    tokio::task::spawn_blocking(move || read(&app, upload)).await?
}

fn read(app: &App, upload: Upload) -> Result<UploadReport, Problem> {
    let Upload { dataset, file, query, place } = upload;
    let given = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
    let ask = UploadAsk {
        name: query.file.unwrap_or_else(|| "upload".to_owned()),
        label: given(query.label).map(|text| text.trim().to_owned()),
        patient: given(query.patient),
        split: query.split,
        first_entry: 0,
    };
    let handle = Handle::current();
    let mut keeping = Keeping::new(app, dataset);
    let begun = handle.block_on(datasets::begin_upload(&app.store.pool, dataset))?;
    let mut listener = |found, stored| match handle.block_on(keeping.take(found, stored)) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            keeping.failure = Some(error);
            ControlFlow::Break(())
        }
    };
    let read = app.decoder.upload(&file, ask, &mut listener);
    handle.block_on(datasets::end_upload(&app.store.pool, begun))?;
    match read {
        Ok(()) => {}
        Err(DecodeError::Stopped) => return Err(keeping.stopped()),
        Err(DecodeError::Refused(reason)) => {
            return Err(keeping.told(Problem::new(Code::Invalid, reason)));
        }
        Err(DecodeError::Breach(breach)) => {
            let problem = Problem::new(Code::Invalid, format!("the upload {breach}"));
            return Err(keeping.told(problem));
        }
        Err(error @ DecodeError::Io(_)) => return Err(keeping.told(error.into())),
    }
    let report = keeping.report();
    handle.block_on(datasets::reject(&app.store.pool, dataset, &report.rejected))?;
    drop(place);
    tracing::info!(
        dataset.id = %dataset, files = report.files, images = report.images,
        duplicates = report.duplicates, rejected = report.rejected.len(), "an upload was taken in"
    );
    Ok(report)
}

/// Files named in a notice at most.
const CONFLICTS_SHOWN: usize = 20;
/// Notices of single files in an answer at most.
const NOTICES_SHOWN: usize = 100;

fn differs(before: &Image, now: &Image) -> bool {
    (&before.label, &before.patient_key, before.split) != (&now.label, &now.patient_key, now.split)
}

/// What was found of an upload and kept of it so far.
struct Keeping<'a> {
    app: &'a App,
    dataset: DatasetId,
    files: u64,
    images: u64,
    duplicates: u64,
    /// Files that name no patient.
    lone: u64,
    /// Files without a class.
    unlabelled: u64,
    /// Files that were there already with another class, patient or split.
    conflicts: Vec<String>,
    rejected: Vec<RejectedFile>,
    /// Rejected files beyond those that are listed.
    further: u64,
    notices: Vec<String>,
    failure: Option<StoreError>,
}

impl<'a> Keeping<'a> {
    fn new(app: &'a App, dataset: DatasetId) -> Self {
        Self {
            app,
            dataset,
            files: 0,
            images: 0,
            duplicates: 0,
            lone: 0,
            unlabelled: 0,
            conflicts: Vec::new(),
            rejected: Vec::new(),
            further: 0,
            notices: Vec::new(),
            failure: None,
        }
    }

    async fn take(&mut self, found: Found, stored: Stored) -> Result<(), StoreError> {
        match found {
            Found::Files(_) | Found::Begun { .. } => {}
            Found::Kept(kept) => return self.keep(*kept, stored).await,
            Found::Rejected(RejectedEntry { path, reason, .. }) => {
                if (self.rejected.len() as u64) < self.app.limits.listed_files {
                    self.rejected.push(RejectedFile { file: path, reason });
                } else {
                    self.further += 1;
                }
            }
            Found::FurtherRows(rows) => self.further += rows,
            Found::LeftOut(files) => {
                self.notices.push(format!("{files} hidden or text files were skipped"));
            }
        }
        Ok(())
    }

    /// The blob comes first: a row must never name a blob that is not there.
    async fn keep(&mut self, mut kept: KeptFile, stored: Stored) -> Result<(), StoreError> {
        self.files += 1;
        self.unlabelled += u64::from(kept.label.is_none());
        for notice in kept.notices.iter().take(NOTICES_SHOWN.saturating_sub(self.notices.len())) {
            self.notices.push(format!("{}: {notice}", kept.path));
        }
        let store = &self.app.store;
        let (content, _spooled) = match stored {
            // Every kept file comes with its bytes.
            Stored::Nothing => return Ok(()),
            Stored::Memory(bytes) => (Content::Bytes(bytes.into()), None),
            Stored::Spooled(file) => (Content::File(file.path().to_owned()), Some(file)),
        };
        let blob = store.blobs.put(&content).await?;
        let patient_key = if let Some(patient) = kept.patient.take() {
            self.app.hasher.key(&patient)
        } else {
            self.lone += 1;
            self.app.hasher.lone(&blob.sha256)
        };
        let made = |(frame, facts): (usize, &FrameFacts)| {
            image(self.dataset, &kept, (frame as u32, facts), (&patient_key, blob))
        };
        let images: Vec<Image> = kept.frames.iter().enumerate().map(made).collect();
        let held = images::keep(store, self.dataset, &content, &images).await?;
        for (image, before) in images.into_iter().zip(held) {
            let Some(before) = before else {
                self.images += 1;
                continue;
            };
            self.duplicates += 1;
            if differs(&before, &image) {
                self.conflicts.push(image.file);
            }
        }
        Ok(())
    }

    fn report(mut self) -> UploadReport {
        if self.unlabelled > 0 {
            self.notices.push(format!(
                "{} files have no label; they are kept, and only pretraining can learn from them",
                self.unlabelled
            ));
        }
        if self.lone > 0 {
            self.notices.push(format!(
                "{} files name no patient; each counts as a patient of its own. Add a `patient` \
                 column to labels.csv when one patient has several images",
                self.lone
            ));
        }
        if self.further > 0 {
            self.notices.push(format!("{} further files could not be taken", self.further));
        }
        self.notices.extend(self.conflict());
        UploadReport {
            files: self.files,
            images: self.images,
            duplicates: self.duplicates,
            rejected: self.rejected,
            notices: self.notices,
        }
    }

    /// Tells of pictures that were there already and that this upload says something else of.
    fn conflict(&self) -> Option<String> {
        let shown: Vec<&str> =
            self.conflicts.iter().take(CONFLICTS_SHOWN).map(String::as_str).collect();
        let more = self.conflicts.len() - shown.len();
        let and_more = if more > 0 { format!(" and {more} more") } else { String::new() };
        (!shown.is_empty()).then(|| {
            format!(
                "{}{and_more} were here already with another class, patient or split, which they \
                 keep; delete the images first to change that",
                shown.join(", ")
            )
        })
    }

    fn stopped(mut self) -> Problem {
        let problem = match self.failure.take() {
            // What had been kept was deleted with the dataset.
            Some(error @ StoreError::Gone(_)) => return error.into(),
            Some(error) => Problem::from(error),
            None => Problem::internal("an upload was stopped without a reason"),
        };
        self.told(problem)
    }

    /// What was kept before the upload broke off stays: the caller must know.
    fn told(&self, problem: Problem) -> Problem {
        match self.images {
            0 => problem,
            kept => problem.adding(format!("{kept} images of this upload were kept")),
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
        file: kept.path.clone(),
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
