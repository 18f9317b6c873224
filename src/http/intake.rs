//! From a spooled upload to blobs and rows, on a thread that may wait for the decoder.

use std::fs::File;
use std::ops::ControlFlow;

use bytes::Bytes as Content;
use time::OffsetDateTime;
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;

use super::App;
use super::problem::Problem;
use super::underway::Watched;
use super::uploads::UploadQuery;
use crate::domain::dataset::UploadReport;
use crate::domain::image::Image;
use crate::domain::{DatasetId, ImageId};
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
    /// Shows how far it is, for as long as it goes on.
    pub watched: Watched,
}

/// Keeps what can be read of an upload. Once begun it goes to the end, with or without its caller.
pub async fn take_in(app: &App, upload: Upload) -> Result<UploadReport, Problem> {
    let app = app.clone();
    tokio::task::spawn_blocking(move || read(&app, upload)).await?
}

fn read(app: &App, upload: Upload) -> Result<UploadReport, Problem> {
    let Upload { dataset, file, query, place, watched } = upload;
    let name = query.file.as_deref().unwrap_or("upload");
    let context = UploadContext {
        limits: &app.limits,
        hasher: &app.hasher,
        label: query
            .label
            .as_deref()
            .map(str::trim)
            .filter(|text| !text.is_empty())
            .map(str::to_owned),
        patient: query.patient.filter(|text| !text.trim().is_empty()),
        split: query.split,
        progress: watched.progress(),
    };
    let handle = Handle::current();
    let mut keeping =
        Keeping { app, dataset, images: 0, duplicates: 0, conflicts: Vec::new(), failure: None };
    let mut keep = |kept: KeptFile| match handle.block_on(keeping.keep(kept)) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            keeping.failure = Some(error);
            ControlFlow::Break(())
        }
    };
    let begun = handle.block_on(datasets::begin_upload(&app.store.pool, dataset))?;
    let read = read_upload(file, name, &context, &mut keep);
    handle.block_on(datasets::end_upload(&app.store.pool, begun))?;
    let mut summary = match read {
        Ok(summary) => summary,
        Err(UploadError::Stopped) => return Err(keeping.stopped()),
        Err(error) => return Err(keeping.told(error.into())),
    };
    summary.notices.extend(keeping.conflict());
    handle.block_on(datasets::reject(&app.store.pool, dataset, &summary.rejected))?;
    drop((place, watched));
    tracing::info!(
        dataset.id = %dataset, files = summary.files, images = keeping.images,
        duplicates = keeping.duplicates, rejected = summary.rejected.len(), "an upload was taken in"
    );
    Ok(UploadReport {
        files: summary.files,
        images: keeping.images,
        duplicates: keeping.duplicates,
        rejected: summary.rejected,
        notices: summary.notices,
    })
}

/// Files named in a notice at most.
const CONFLICTS_SHOWN: usize = 20;

fn differs(before: &Image, now: &Image) -> bool {
    (&before.label, &before.patient_key, before.split) != (&now.label, &now.patient_key, now.split)
}

struct Keeping<'a> {
    app: &'a App,
    dataset: DatasetId,
    images: u64,
    duplicates: u64,
    /// Files that were there already with another class, patient or split.
    conflicts: Vec<String>,
    failure: Option<StoreError>,
}

impl Keeping<'_> {
    /// The blob comes first: a row must never name a blob that is not there.
    async fn keep(&mut self, mut kept: KeptFile) -> Result<(), StoreError> {
        let store = &self.app.store;
        let adding = Adding::begin(store).await?;
        let blob = store.blobs.put_bytes(Content::from(std::mem::take(&mut kept.stored))).await?;
        for (frame, facts) in kept.frames.iter().enumerate() {
            let image = image(self.dataset, &kept, frame as u32, facts, blob.size_bytes);
            if images::add(&store.pool, &image).await? {
                self.images += 1;
            } else {
                self.duplicates += 1;
                let before = images::same(&store.pool, self.dataset, &image.blob, image.frame);
                if before.await?.is_some_and(|before| differs(&before, &image)) {
                    self.conflicts.push(image.file);
                }
            }
        }
        adding.end().await
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
    frame: u32,
    facts: &FrameFacts,
    size_bytes: u64,
) -> Image {
    Image {
        id: ImageId::new(),
        dataset,
        file: kept.file.clone(),
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
