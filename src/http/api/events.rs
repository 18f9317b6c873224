//! The events of a run, asked for from the first one or from where the client left off.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::runs;
use crate::domain::run::Event;
use crate::domain::{Role, RunId};
use crate::http::app::App;
use crate::http::wire::caller::Caller;
use crate::http::wire::documented::{Busy, Guarded, Invalid, Missing};
use crate::http::wire::events::{Following, unbuffered};
use crate::http::wire::extract::{Id, Query};
use crate::http::wire::problem::{Code, Problem};

/// Proxies close connections that are silent for longer.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

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
