//! The progress of the uploads that go on now: kept in memory, and told only to who sends them.
//!
//! There are never more entries than uploads that may go on at the same time: each is removed when
//! its upload has ended, however it ended.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use serde::Serialize;

use super::problem::Problem;
use crate::domain::{Sha256, UploadId};
use crate::imaging::UploadProgress;

/// What is being done with an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum UploadStage {
    /// Its bytes are coming in.
    Receiving,
    /// Its files are being read and checked.
    Reading,
    /// None that the caller sends goes on with the id: it has not arrived yet, or has ended.
    Unknown,
}

/// How far an upload is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct UploadState {
    /// What is being done.
    pub stage: UploadStage,
    /// Files read so far, those that could not be taken among them.
    pub files_read: u64,
    /// Files there are to read; 0 before it is known.
    pub files_total: u64,
}

/// The sender of an upload: the digest of the key in its header, or nobody in particular.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner(Option<Sha256>);

impl Owner {
    /// The sender of a request with these headers.
    pub fn of(headers: &HeaderMap) -> Self {
        Self(headers.get(AUTHORIZATION).map(|value| Sha256::of(value.as_bytes())))
    }
}

#[derive(Debug)]
struct Known {
    owner: Owner,
    stage: UploadStage,
    progress: UploadProgress,
}

/// The uploads that go on now and whose senders may want to know how far they are.
#[derive(Debug, Clone, Default)]
pub struct Underway(Arc<Mutex<HashMap<UploadId, Known>>>);

impl Underway {
    /// An upload has begun; without an id nobody can ask for it.
    pub fn begin(&self, id: Option<UploadId>, owner: Owner) -> Result<Watched, Problem> {
        let progress = UploadProgress::default();
        if let Some(id) = id {
            let known = Known { owner, stage: UploadStage::Receiving, progress: progress.clone() };
            match self.known().entry(id) {
                Entry::Vacant(place) => place.insert(known),
                Entry::Occupied(_) => {
                    let detail = "progress is the id of an upload that goes on; make another one";
                    return Err(Problem::wrong("progress", detail));
                }
            };
        }
        Ok(Watched { underway: self.clone(), id, progress })
    }

    /// The progress of an upload; unknown is one that does not go on, or is somebody else's.
    pub fn state(&self, id: UploadId, owner: Owner) -> UploadState {
        let known = self.known();
        match known.get(&id).filter(|found| found.owner == owner) {
            Some(found) => UploadState {
                stage: found.stage,
                files_read: found.progress.files_read(),
                files_total: found.progress.files_total(),
            },
            None => UploadState { stage: UploadStage::Unknown, files_read: 0, files_total: 0 },
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<UploadId, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An upload that can be asked for until this is dropped.
#[derive(Debug)]
pub struct Watched {
    underway: Underway,
    id: Option<UploadId>,
    progress: UploadProgress,
}

impl Watched {
    /// All its bytes are here.
    pub fn received(&self) {
        let mut known = self.underway.known();
        if let Some(found) = self.id.and_then(|id| known.get_mut(&id)) {
            found.stage = UploadStage::Reading;
        }
    }

    /// The counter of its files.
    pub fn progress(&self) -> UploadProgress {
        self.progress.clone()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.underway.known().remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderMap;

    use super::{Owner, Underway, UploadStage};
    use crate::domain::UploadId;

    fn owner(key: &'static str) -> Owner {
        let header = axum::http::HeaderValue::from_static(key);
        Owner::of(&HeaderMap::from_iter([(axum::http::header::AUTHORIZATION, header)]))
    }

    #[test]
    fn an_upload_is_told_of_while_it_goes_on_and_only_to_its_sender() {
        let (underway, id) = (Underway::default(), UploadId::new());
        let (mine, theirs) = (owner("Bearer lvmed_a"), owner("Bearer lvmed_b"));

        let watched = underway.begin(Some(id), mine).expect("the id is free");
        let receiving = underway.state(id, mine);
        watched.received();
        watched.progress().total(2000);
        (0..412).for_each(|_| watched.progress().one_more());
        let reading = underway.state(id, mine);

        assert_eq!((receiving.stage, receiving.files_total), (UploadStage::Receiving, 0));
        assert_eq!(reading.stage, UploadStage::Reading);
        assert_eq!((reading.files_read, reading.files_total), (412, 2000));
        assert_eq!(underway.state(id, theirs).stage, UploadStage::Unknown);
        assert!(underway.begin(Some(id), theirs).is_err(), "one id for two uploads");
        drop(watched);
        assert_eq!(underway.state(id, mine).stage, UploadStage::Unknown);
        assert!(underway.known().is_empty());
    }
}
