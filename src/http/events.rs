//! A run's events as a stream that a client can resume where it left off.
//!
//! The database is the only source: a change that is told or a look every two seconds makes the
//! stream read on from the last event that it sent, so that nothing is lost and nothing told twice.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::sse::{Event as Told, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream};
use serde::Deserialize;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, broadcast};

use super::App;
use super::caller::Caller;
use super::documented::{Busy, Guarded, Invalid, Missing};
use super::extract::{Id, Query};
use super::problem::{Code, Problem};
use super::runs;
use crate::domain::run::{Event, EventBody};
use crate::domain::{Role, RunId};
use crate::store::{StoreError, events, runs as stored};

/// A change whose notice was lost is seen after this long.
const LOOK: Duration = Duration::from_secs(2);
/// Proxies close connections that are silent for longer.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Events read at a time.
const BATCH: u32 = 500;

/// Where a stream starts.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventsQuery {
    /// Only events after this one; the header `Last-Event-ID` wins.
    #[param(minimum = 0)]
    after: Option<i64>,
}

/// Where a client left off.
#[derive(Debug, utoipa::IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "only its schema is used")]
struct ResumeHeader {
    /// Only events after this one.
    #[param(rename = "Last-Event-ID", minimum = 0)]
    last_event_id: Option<i64>,
}

/// The events of a run, from the first or from where the client left off, as they happen.
///
/// Server-sent events: `id` is the event's sequence, `event` its kind (`status`, `progress`,
/// `metric` or `log`), `data` the event as JSON. The stream ends after the event that ends the
/// run; a client that has that event already gets 204, which tells browsers not to come again.
#[utoipa::path(get, path = "/api/v1/runs/{id}/events", tag = "runs",
    operation_id = "stream_run_events",
    params(("id" = RunId, Path, description = "The run's id"), EventsQuery, ResumeHeader),
    responses((status = 200, description = "The stream", body = Event,
        content_type = "text/event-stream"),
        (status = 204, description = "The run has ended and nothing is left to tell"),
        Missing, Invalid, Busy, Guarded))]
pub async fn stream(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<RunId>,
    Query(query): Query<EventsQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    caller.must(Role::Viewer)?;
    let after = start(&headers, &query)?;
    runs::existing(&app, id).await?;
    let streams = Arc::clone(&app.gates.event_streams);
    let place = streams.try_acquire_owned().map_err(|_| busy(&app))?;
    let mut following = Following::new(app, id, after, place);
    if following.read_on().await? {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    let stream = Sse::new(following.into_stream()).keep_alive(keep_alive);
    Ok((unbuffered(), stream).into_response())
}

/// Proxies pass each event on as it comes: nginx holds answers back until it is told not to, and
/// others may hold back what they compress.
fn unbuffered() -> [(HeaderName, HeaderValue); 2] {
    [
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
        (CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform")),
    ]
}

fn start(headers: &HeaderMap, query: &EventsQuery) -> Result<i64, Problem> {
    let Some(header) = headers.get("last-event-id") else {
        let after = query.after.unwrap_or(0);
        return if after >= 0 {
            Ok(after)
        } else {
            Err(Problem::wrong("after", "after must not be negative"))
        };
    };
    let number = header.to_str().ok().and_then(|text| text.trim().parse::<i64>().ok());
    number.filter(|number| *number >= 0).ok_or_else(|| {
        Problem::wrong("Last-Event-ID", "Last-Event-ID must be the id of an event of this stream")
    })
}

fn busy(app: &App) -> Problem {
    let max = app.limits.event_streams;
    let detail =
        format!("{max} event streams are open; that is the limit (LVMED_LIMIT_EVENT_STREAMS)");
    Problem::new(Code::Busy, detail)
}

/// A client that follows a run.
struct Following {
    app: App,
    run: RunId,
    changes: broadcast::Receiver<RunId>,
    /// The last event that was read.
    after: i64,
    read: VecDeque<Event>,
    _place: OwnedSemaphorePermit,
}

impl Following {
    fn new(app: App, run: RunId, after: i64, place: OwnedSemaphorePermit) -> Self {
        // Listening starts before the first look: what happens in between is not missed.
        let changes = app.changes.subscribe();
        Self { app, run, changes, after, read: VecDeque::new(), _place: place }
    }

    fn into_stream(self) -> impl Stream<Item = Result<Told, Infallible>> {
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
    async fn read_on(&mut self) -> Result<bool, StoreError> {
        let pool = &self.app.store.pool;
        let run = stored::one(pool, self.run).await?;
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

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, HeaderValue};

    use super::{EventsQuery, start};

    #[test]
    fn the_header_of_a_resuming_browser_wins_over_the_query() {
        let mut headers = HeaderMap::new();
        let query = EventsQuery { after: Some(3) };

        assert_eq!(start(&headers, &query), Ok(3));
        headers.insert("last-event-id", HeaderValue::from_static("7"));
        assert_eq!(start(&headers, &query), Ok(7));
        headers.insert("last-event-id", HeaderValue::from_static("-7"));
        assert!(start(&headers, &query).is_err());
    }
}
