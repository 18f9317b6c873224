//! The activity of one connection: waiting for its client, since when, or working on a request.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use futures_util::task::AtomicWaker;
use hyper::body::{Frame, SizeHint};

/// Stands for a connection that works.
const WORKING: u64 = u64::MAX;

/// The activity of one connection, shared by its socket, its requests and the table of places.
#[derive(Debug)]
pub(super) struct Activity {
    accepted: Instant,
    /// Milliseconds from acceptance to when the connection began to wait.
    waiting_since: AtomicU64,
    /// Requests so far.
    begun: AtomicU64,
    /// Woken when the connection begins to wait: while it works nobody reads, and nobody would set
    /// the alarm that ends the waiting.
    reader: AtomicWaker,
}

impl Activity {
    /// That of a new connection, which waits for its first request.
    pub(super) fn new() -> Arc<Self> {
        let (waiting_since, begun) = (AtomicU64::new(0), AtomicU64::new(0));
        let reader = AtomicWaker::new();
        Arc::new(Self { accepted: Instant::now(), waiting_since, begun, reader })
    }

    /// Requests that have begun so far.
    pub(super) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Acquire)
    }

    /// Since when the connection waits for its client; none while it works.
    pub(super) fn waiting_since(&self) -> Option<Instant> {
        match self.waiting_since.load(Ordering::Acquire) {
            WORKING => None,
            since => Some(self.accepted + Duration::from_millis(since)),
        }
    }

    /// Has the task of `context` polled again once the connection waits.
    pub(super) fn wake_when_waiting(&self, context: &Context<'_>) {
        self.reader.register(context.waker());
    }

    fn work(&self) {
        self.begun.fetch_add(1, Ordering::AcqRel);
        self.waiting_since.store(WORKING, Ordering::Release);
    }

    fn wait(&self) {
        let since = self.accepted.elapsed().as_millis();
        self.waiting_since.store(u64::try_from(since).unwrap_or(0), Ordering::Release);
        self.reader.wake();
    }
}

/// A request under way; dropped, its connection waits again.
#[derive(Debug)]
pub(super) struct Answering(Arc<Activity>);

impl Answering {
    /// The connection works from now on.
    pub(super) fn begin(activity: &Arc<Activity>) -> Self {
        activity.work();
        Self(Arc::clone(activity))
    }

    /// The answer's body, during which the connection still works.
    pub(super) fn until_sent(self, body: Body) -> Sending {
        Sending { body, _answering: self }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.wait();
    }
}

/// The body of an answer on its way.
#[derive(Debug)]
pub(super) struct Sending {
    body: Body,
    _answering: Answering,
}

impl HttpBody for Sending {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
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
    use super::{Activity, Answering, Body};

    #[test]
    fn a_connection_works_from_a_requests_head_until_its_answer_is_sent() {
        let activity = Activity::new();
        assert!(activity.waiting_since().is_some());

        let answering = Answering::begin(&activity);
        assert!(activity.waiting_since().is_none());
        let sending = answering.until_sent(Body::from("answer"));
        assert!(activity.waiting_since().is_none());
        drop(sending);

        assert!(activity.waiting_since().is_some());
    }
}
