//! The standing of callers: what is long under way ends when its key does.
//!
//! One look at the keys every two seconds serves all requests and answers under way. A key that was
//! revoked or has expired stays so; what an old look found is never wrong, only late.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use sqlx::PgPool;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::domain::KeyId;
use crate::store::keys::{self, Ended};

/// Time between two looks at the keys; none is taken while nothing is under way.
const LOOK: Duration = Duration::from_secs(2);

/// The keys that have ended, for everything that is under way.
#[derive(Debug, Clone)]
pub struct Standing(Arc<watch::Sender<Ended>>);

impl Standing {
    /// Starts to look at the keys, until the server stops.
    pub fn start(pool: PgPool, stopping: CancellationToken) -> Self {
        let standing = Self(Arc::new(watch::Sender::new(Ended::default())));
        tokio::spawn(standing.clone().keep_up(pool, stopping));
        standing
    }

    /// Tells at once that this server revoked a key.
    pub fn revoked(&self, key: KeyId) {
        self.0.send_modify(|ended| ended.keys.extend([key]));
    }

    /// Tells at once that there is a key now, and nobody is let in without one.
    pub fn closed(&self) {
        self.0.send_modify(|ended| ended.any = true);
    }

    async fn keep_up(self, pool: PgPool, stopping: CancellationToken) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = stopping.cancelled() => return,
            }
            if self.0.receiver_count() == 0 {
                continue;
            }
            match keys::ended(&pool).await {
                Ok(found) => self.tell(found),
                Err(error) => tracing::debug!(%error, "the keys cannot be looked at"),
            }
        }
    }

    /// Wakes what is under way, if anything is new to it.
    fn tell(&self, found: Ended) {
        self.0.send_if_modified(|ended| {
            let before = (ended.any, ended.keys.len());
            ended.any |= found.any;
            ended.keys.extend(found.keys);
            before != (ended.any, ended.keys.len())
        });
    }

    /// Returns when the caller may no longer go on.
    async fn end(self, seat: Seat) {
        let mut ended = self.0.subscribe();
        let lost = |ended: &Ended| match seat.0.get() {
            None => false,
            Some(Some(key)) => ended.keys.contains(key),
            Some(None) => ended.any,
        };
        if ended.wait_for(lost).await.is_err() {
            // The other end is held by all that could ask.
            std::future::pending::<()>().await;
        }
    }
}

/// The sender of a request, once that is known: the caller's key, or none while no key exists.
#[derive(Debug, Clone, Default)]
pub struct Seat(Arc<OnceLock<Option<KeyId>>>);

impl Seat {
    /// Remembers the caller.
    pub fn take(&self, key: Option<KeyId>) {
        // A request has one caller; that it is found twice changes nothing.
        let _ = self.0.set(key);
    }
}

/// The caller's key has ended while something was under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the API key was revoked or has expired, or the first one was made, while the request was under way"
)]
pub struct Lost;

/// The error of a body that broke off because its caller's key has ended, if it did.
pub fn lost<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Lost> {
    std::iter::successors(Some(error), |error| error.source())
        .find_map(|error| error.downcast_ref())
}

/// Watches over the bodies of a request and of its answer.
pub async fn watch(State(standing): State<Standing>, request: Request, next: Next) -> Response {
    let seat = Seat::default();
    let watched = |body, ending| {
        Body::new(Watched { body, ending, watch: Box::pin(standing.clone().end(seat.clone())) })
    };
    let mut request = request.map(|body| watched(body, Ending::Broken));
    request.extensions_mut().insert(seat.clone());
    let response = next.run(request).await;
    // What is there as a whole is sent as a whole: the answer that tells the first key, say, to a
    // caller whose time without one has just ended.
    if seat.0.get().is_none() || response.body().size_hint().exact().is_some() {
        return response;
    }
    let kind = response.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let ending = if kind.is_some_and(|kind| kind.starts_with(b"text/event-stream")) {
        Ending::Whole
    } else {
        Ending::Broken
    };
    response.map(|body| watched(body, ending))
}

/// The ending of a body when its caller's key has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// As if there were no more: an event stream has no length, and may end at any time.
    Whole,
    /// So that nobody takes it for the whole.
    Broken,
}

/// A body that ends with its caller's key.
struct Watched {
    body: Body,
    ending: Ending,
    watch: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        if this.watch.as_mut().poll(context).is_ready() {
            this.body = Body::empty();
            this.watch = Box::pin(std::future::pending());
            return Poll::Ready(match this.ending {
                Ending::Whole => None,
                Ending::Broken => Some(Err(axum::Error::new(Lost))),
            });
        }
        Pin::new(&mut this.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::body::Body;
    use futures_util::StreamExt;
    use tokio::sync::watch;

    use super::{Ended, Ending, Seat, Standing, Watched, lost};
    use crate::domain::KeyId;

    fn watched(standing: &Standing, key: Option<KeyId>, ending: Ending) -> Body {
        let seat = Seat::default();
        seat.take(key);
        let parts = futures_util::stream::iter([Ok::<_, std::io::Error>("part")]);
        let body = Body::from_stream(parts.chain(futures_util::stream::pending()));
        Body::new(Watched { body, ending, watch: Box::pin(standing.clone().end(seat)) })
    }

    #[tokio::test]
    async fn what_is_under_way_ends_with_the_callers_key_and_with_no_other() {
        let standing = Standing(Arc::new(watch::Sender::new(Ended::default())));
        let (key, other) = (KeyId::new(), KeyId::new());
        let mut stream = watched(&standing, Some(key), Ending::Whole).into_data_stream();
        let mut download = watched(&standing, Some(key), Ending::Broken).into_data_stream();
        let mut others = watched(&standing, Some(other), Ending::Broken).into_data_stream();
        let mut open = watched(&standing, None, Ending::Whole).into_data_stream();
        for body in [&mut stream, &mut download, &mut others, &mut open] {
            assert!(matches!(body.next().await, Some(Ok(_))));
        }

        standing.revoked(key);

        assert!(stream.next().await.is_none());
        let broken = download.next().await.expect("an end that is told");
        assert!(lost(&broken.expect_err("broken off")).is_some());
        let waits = async |body: &mut axum::body::BodyDataStream| {
            futures_util::poll!(body.next()).is_pending()
        };
        assert!(waits(&mut others).await && waits(&mut open).await);
        standing.closed();
        assert!(open.next().await.is_none() && waits(&mut others).await);
    }
}
