//! A request's body on its way to the handler, which is woken for worthwhile parts only.
//!
//! A request is polled again for each part of its body that comes, however small, and with it all
//! layers around its handler. Here the crumbs are put together first, and only when the handler has
//! asked for more: a client that asks before it sends is not answered for a handler that refuses it.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hyper::body::{Frame, Incoming};

use super::pace::{Pace, Paced};

/// A part of a body; none at its end.
type Part = Option<Result<Bytes, axum::Error>>;

/// The hatch where a part changes hands.
#[derive(Debug, Default)]
struct Hatch {
    is_wanted: bool,
    part: Option<Part>,
    is_closed: bool,
    handler: Option<Waker>,
    pump: Option<Waker>,
}

fn lock(hatch: &Mutex<Hatch>) -> MutexGuard<'_, Hatch> {
    // Nothing in here can panic half way.
    hatch.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The side of the connection.
#[derive(Debug)]
pub(super) struct Pump<B> {
    body: Paced<B>,
    hatch: Arc<Mutex<Hatch>>,
}

/// The side of the handler.
#[derive(Debug)]
struct Handed {
    hatch: Arc<Mutex<Hatch>>,
    has_ended: bool,
}

/// The body for the handler, and what moves it there; nothing where there is no body.
pub(super) fn split<B>(body: B, pace: Pace) -> (Body, Option<Pump<B>>)
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<axum::BoxError>,
{
    if body.is_end_stream() {
        return (Body::empty(), None);
    }
    let hatch = Arc::<Mutex<Hatch>>::default();
    let handed = Handed { hatch: Arc::clone(&hatch), has_ended: false };
    (Body::new(handed), Some(Pump { body: Paced::new(body, pace), hatch }))
}

impl<B> Pump<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<axum::BoxError>,
{
    /// Moves a part, if one is wanted and has come.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        {
            let mut hatch = lock(&self.hatch);
            if !hatch.is_wanted {
                hatch.pump = Some(context.waker().clone());
                return Poll::Pending;
            }
        }
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) else {
            return Poll::Pending;
        };
        let part = frame.map(|frame| frame.map(|frame| frame.into_data().unwrap_or_default()));
        let mut hatch = lock(&self.hatch);
        hatch.is_wanted = false;
        hatch.part = Some(part);
        let handler = hatch.handler.take();
        drop(hatch);
        handler.into_iter().for_each(Waker::wake);
        Poll::Ready(())
    }
}

impl<B> Drop for Pump<B> {
    fn drop(&mut self) {
        let mut hatch = lock(&self.hatch);
        hatch.is_closed = true;
        let handler = hatch.handler.take();
        drop(hatch);
        handler.into_iter().for_each(Waker::wake);
    }
}

/// The request has been answered, or its connection is gone.
#[derive(Debug, thiserror::Error)]
#[error("nothing more of the body is read")]
struct Closed;

impl HttpBody for Handed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        if this.has_ended {
            return Poll::Ready(None);
        }
        let mut hatch = lock(&this.hatch);
        let part = match hatch.part.take() {
            Some(part) => part,
            None if hatch.is_closed => Some(Err(axum::Error::new(Closed))),
            None => {
                hatch.is_wanted = true;
                hatch.handler = Some(context.waker().clone());
                let pump = hatch.pump.take();
                drop(hatch);
                pump.into_iter().for_each(Waker::wake);
                return Poll::Pending;
            }
        };
        this.has_ended = !matches!(part, Some(Ok(_)));
        Poll::Ready(part.map(|part| part.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.has_ended
    }
}

/// A request being answered while its body is moved to the handler.
#[derive(Debug)]
pub(super) struct Served<F, B = Incoming> {
    /// The one answer, which is polled only when something has woken itself.
    answer: FuturesUnordered<F>,
    pump: Option<Pump<B>>,
}

impl<F, B> Served<F, B> {
    /// An answer to be made, and its request's body.
    pub(super) fn new(answer: F, pump: Option<Pump<B>>) -> Self {
        Self { answer: FuturesUnordered::from_iter([answer]), pump }
    }
}

impl<F, B> Future for Served<F, B>
where
    F: Future,
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<axum::BoxError>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.get_mut();
        loop {
            if let Poll::Ready(Some(answer)) = this.answer.poll_next_unpin(context) {
                return Poll::Ready(answer);
            }
            match this.pump.as_mut().map(|pump| pump.poll(context)) {
                Some(Poll::Ready(())) => {}
                Some(Poll::Pending) | None => return Poll::Pending,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Poll;
    use std::time::Duration;

    use axum::body::Body;
    use bytes::Bytes;
    use futures_util::{StreamExt, stream};

    use super::{Closed, Pace, Served, split};

    const PACE: Pace =
        Pace { grace: Duration::from_secs(10), bytes_per_second: 1, most: Duration::from_secs(10) };

    /// A body of single bytes that come one by one.
    fn crumbs(count: usize) -> Body {
        let crumbs = stream::iter(0..count).then(|_| async {
            tokio::task::yield_now().await;
            Ok::<_, std::io::Error>(Bytes::from_static(b"x"))
        });
        Body::from_stream(crumbs)
    }

    #[tokio::test]
    async fn a_handler_gets_the_whole_body_and_is_not_woken_for_crumbs() {
        let (body, pump) = split(crumbs(100_000), PACE);
        let polled = AtomicUsize::new(0);
        let mut handler = Box::pin(async { axum::body::to_bytes(body, 1 << 20).await });
        let counted = std::future::poll_fn(|context| {
            polled.fetch_add(1, Ordering::Relaxed);
            handler.as_mut().poll(context)
        });

        let read = Served::new(counted, pump).await.expect("a body");

        assert_eq!(read.len(), 100_000);
        assert!(polled.load(Ordering::Relaxed) < 20, "{polled:?}");
    }

    #[tokio::test]
    async fn a_body_that_nobody_asks_for_is_not_touched_and_ends_with_its_request() {
        let touched = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&touched);
        let stream = stream::poll_fn(move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
            Poll::Ready(Some(Ok::<_, std::io::Error>(Bytes::from_static(b"x"))))
        });
        let (body, pump) = split(Body::from_stream(stream), PACE);

        let body = Served::new(std::future::ready(body), pump).await;

        assert_eq!(touched.load(Ordering::Relaxed), 0);
        let told = axum::body::to_bytes(body, 10).await.expect_err("its request is answered");
        let mut why: &dyn Error = &told;
        while let Some(source) = why.source() {
            why = source;
        }
        assert!(why.is::<Closed>(), "{told:?}");
    }
}
