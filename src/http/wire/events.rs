//! Following a run: its events as a stream that a client can resume where it left off.
//!
//! The database is the only source: a change that is told or a look every two seconds makes the
//! stream read on from the last event that it sent, so that nothing is lost and nothing told twice.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderName, HeaderValue};
use axum::response::sse::Event as Told;
use futures_util::stream::{self, Stream};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, broadcast};

use crate::domain::RunId;
use crate::domain::run::{Event, EventBody};
use crate::http::app::App;
use crate::store::{StoreError, events, runs};

/// A change whose notice was lost is seen after this long.
const LOOK: Duration = Duration::from_secs(2);
/// Events read at a time.
const BATCH: u32 = 500;

/// Proxies pass each event on as it comes: nginx holds answers back until it is told not to, and
/// others may hold back what they compress.
pub fn unbuffered() -> [(HeaderName, HeaderValue); 2] {
    [
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
        (CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform")),
    ]
}

/// A client that follows a run.
pub struct Following {
    app: App,
    run: RunId,
    changes: broadcast::Receiver<RunId>,
    /// The last event that was read.
    after: i64,
    read: VecDeque<Event>,
    _place: OwnedSemaphorePermit,
}

impl Following {
    /// A client that has had everything up to `after`.
    pub fn new(app: App, run: RunId, after: i64, place: OwnedSemaphorePermit) -> Self {
        // Listening starts before the first look: what happens in between is not missed.
        let changes = app.changes.subscribe();
        Self { app, run, changes, after, read: VecDeque::new(), _place: place }
    }

    /// The events that it is told from here on.
    pub fn into_stream(self) -> impl Stream<Item = Result<Told, Infallible>> {
        stream::unfold(self, |mut following| async {
            let event = following.next().await?;
            Some((Ok(told(&event)), following))
        })
    }

    /// The next event; none when the run has ended, the server stops or the database is lost. The
    /// client then comes again with its `Last-Event-ID`.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.read.pop_front() {
                return Some(event);
            }
            match self.read_on().await {
                Ok(true) => return None,
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(run.id = %self.run, %error, "an event stream was given up");
                    return None;
                }
            }
            if self.read.is_empty() && !self.wait().await {
                return None;
            }
        }
    }

    /// Reads what has happened since; whether nothing is left and nothing more will come.
    ///
    /// The status is read before the events: an event that ends the run is stored together with
    /// the status, so that a status that is final has all its events there.
    pub async fn read_on(&mut self) -> Result<bool, StoreError> {
        let pool = &self.app.store.pool;
        let run = runs::one(pool, self.run).await?;
        let events = events::since(pool, self.run, self.after, BATCH).await?;
        self.after = events.last().map_or(self.after, |event| event.sequence);
        self.read.extend(events);
        let ended = run.is_none_or(|run| run.status.is_final());
        Ok(ended && self.read.is_empty())
    }

    /// Waits until the run may have changed; false when the server stops.
    async fn wait(&mut self) -> bool {
        let look = tokio::time::sleep(LOOK);
        tokio::pin!(look);
        loop {
            tokio::select! {
                () = self.app.stopping.cancelled() => return false,
                () = &mut look => return true,
                change = self.changes.recv() => match change {
                    Ok(run) if run != self.run => {}
                    Ok(_) | Err(RecvError::Lagged(_)) => return true,
                    Err(RecvError::Closed) => {
                        look.as_mut().await;
                        return true;
                    }
                },
            }
        }
    }
}

fn told(event: &Event) -> Told {
    let kind = match event.body {
        EventBody::Status { .. } => "status",
        EventBody::Progress { .. } => "progress",
        EventBody::Metric { .. } => "metric",
        EventBody::Log { .. } => "log",
    };
    let data = serde_json::to_string(event).unwrap_or_default();
    Told::default().id(event.sequence.to_string()).event(kind).data(data)
}
