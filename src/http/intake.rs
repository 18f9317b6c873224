//! From a spooled upload to blobs and rows, on a thread that may wait for the decoder.

use std::fs::File;
use std::io::Seek;
use std::ops::ControlFlow;

use bytes::Bytes as Content;
use time::OffsetDateTime;
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;

use super::App;
use super::problem::Problem;
use super::uploads::UploadQuery;
use crate::domain::counted::counted;
use crate::domain::dataset::UploadReport;
use crate::domain::image::{Image, shown};
use crate::domain::receipt::{Capped, Received};
use crate::domain::{DatasetId, ImageId, Sha256};
use crate::imaging::{FrameFacts, KeptFile, UploadContext, UploadError, read_upload};
use crate::store::sweep::Adding;
use crate::store::{StoreError, datasets, images};

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
    let Upload { dataset, mut file, query, place } = upload;
    let name = query.file.as_deref().unwrap_or("upload");
    let context = UploadContext {
        limits: &app.limits,
        hasher: &app.hasher,
        label: query.label.clone(),
        patient: query.patient.filter(|text| !text.trim().is_empty()),
        split: query.split,
    };
    file.rewind().map_err(StoreError::from)?;
    let digest = Sha256::of_reader(&mut file).map_err(StoreError::from)?;
    let known_by = app.hasher.upload(&digest);
    let handle = Handle::current();
    let mut keeping = Keeping::new(app, dataset);
    let mut keep = |kept: KeptFile| match handle.block_on(keeping.keep(kept)) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            keeping.failure = Some(error);
            ControlFlow::Break(())
        }
    };
    let begun = handle.block_on(datasets::begin_upload(&app.store.pool, dataset, &known_by))?;
    let read = read_upload(file, name, &context, &mut keep);
    handle.block_on(datasets::end_upload(&app.store.pool, begun))?;
    let mut summary = match read {
        Ok(summary) => summary,
        Err(UploadError::Stopped) => return Err(keeping.stopped()),
        Err(error) => return Err(keeping.told(error.into())),
    };
    summary.notices.extend(keeping.conflict());
    let rejected = datasets::reject(&app.store.pool, dataset, &known_by, &summary.rejected);
    handle.block_on(rejected)?;
    drop(place);
    tracing::info!(
        dataset.id = %dataset, files = summary.files, images = keeping.images,
        duplicates = keeping.duplicates, rejected = summary.rejected.total(),
        "an upload was taken in"
    );
    Ok(UploadReport {
        files: summary.files,
        images: keeping.images,
        duplicates: keeping.duplicates,
        receipt: keeping.receipt.into_items(),
        rejected_total: summary.rejected.total(),
        rejected: summary.rejected.into_items(),
        files_without_label: summary.without_label,
        files_without_patient: summary.without_patient,
        notices: summary.notices,
    })
}

/// Files named in a notice at most.
const CONFLICTS_SHOWN: u64 = 20;

struct Keeping<'a> {
    app: &'a App,
    dataset: DatasetId,
    images: u64,
    duplicates: u64,
    receipt: Capped<Received>,
    /// Files that were there already with another class, patient or split.
    conflicts: Capped<String>,
    failure: Option<StoreError>,
}

impl<'a> Keeping<'a> {
    fn new(app: &'a App, dataset: DatasetId) -> Self {
        let receipt = Capped::new(app.limits.listed_files);
        let conflicts = Capped::new(CONFLICTS_SHOWN);
        Self { app, dataset, images: 0, duplicates: 0, receipt, conflicts, failure: None }
    }

    /// The blob comes first: a row must never name a blob that is not there.
    async fn keep(&mut self, mut kept: KeptFile) -> Result<(), StoreError> {
        let store = &self.app.store;
        let mut adding = Adding::begin(store).await?;
        let blob = store.blobs.put_bytes(Content::from(std::mem::take(&mut kept.stored))).await?;
        let pictures: Vec<Image> = (0..)
            .zip(&kept.frames)
            .map(|(frame, facts)| image(self.dataset, &kept, frame, facts, blob.size_bytes))
            .collect();
        let original = self.app.hasher.original(&kept.original);
        let added = images::add(adding.connection(), &pictures, &original).await?;
        adding.end().await?;
        self.images += added.images;
        self.duplicates += pictures.len() as u64 - added.images;
        if added.differs {
            self.conflicts.push_with(|| kept.file.clone());
        }
        self.receipt.push_with(|| Received {
            file: kept.file,
            number: added.number,
            name: shown(added.number, kept.format, 0),
            images: pictures.len() as u32,
            added: added.images as u32,
        });
        Ok(())
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

    fn stopped(mut self) -> Problem {
        let problem = match self.failure.take() {
            Some(error) => Problem::from(error),
            None => Problem::internal("an upload was stopped without a reason"),
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
    frame: u32,
    facts: &FrameFacts,
    size_bytes: u64,
) -> Image {
    Image {
        id: ImageId::new(),
        dataset,
        // The database knows.
        number: 0,
        frame,
        label: kept.label.clone(),
        patient_key: kept.patient_key.clone(),
        split: kept.split,
        format: kept.format,
        width: facts.width,
        height: facts.height,
        modality: facts.modality.clone(),
        window: facts.window,
        blob: kept.blob,
        size_bytes,
        // The database's clock decides; this one is not stored.
        created_at: OffsetDateTime::UNIX_EPOCH,
    }
}
