//! The pace of a request's body: whoever sends too slowly is given up, and crumbs are put together.
//!
//! Only the time that the server waited for its client is counted, never the time that it took itself.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use axum::body::HttpBody;
use bytes::{Bytes, BytesMut};
use hyper::body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::config::Connections;

/// Parts smaller than this are put together before they are passed on: a body that comes in single
/// bytes would cost a write, and several turns of the program, for each.
const WORTHWHILE_BYTES: usize = 16 << 10;
/// Parts taken before others get their turn.
const PARTS_AT_A_TIME: usize = 64;

/// The slowest pace at which a body may come.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Time waited before the pace counts.
    pub grace: Duration,
    /// Bytes for each second waited, on average.
    pub bytes_per_second: u64,
    /// Time waited in all.
    pub most: Duration,
}

impl Pace {
    /// The pace that the bounds ask for.
    pub fn new(bounds: &Connections) -> Self {
        Self {
            grace: Duration::from_secs(bounds.body_grace_seconds),
            bytes_per_second: bounds.body_bytes_per_second.max(1),
            most: Duration::from_secs(bounds.body_seconds),
        }
    }

    /// The time that a sender of so many bytes may have been waited for.
    fn allowed(&self, bytes: u64) -> Duration {
        let earned = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        self.grace.saturating_add(earned).min(self.most)
    }

    fn broken(&self, bytes: u64, waited: Duration) -> Slow {
        if waited >= self.most {
            return Slow::TooLong { seconds: self.most.as_secs() };
        }
        let found = (bytes as f64 / waited.as_secs_f64().max(1e-3)) as u64;
        Slow::BelowPace { found, least: self.bytes_per_second, grace: self.grace.as_secs() }
    }
}

/// A body that came too slowly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Slow {
    /// Fewer bytes a second than the least.
    #[error(
        "the body came at {found} bytes a second; at least {least} are needed after {grace} s \
         (LVMED_LIMIT_BODY_BYTES_PER_SECOND, LVMED_LIMIT_BODY_GRACE_SECONDS)"
    )]
    BelowPace {
        /// Bytes a second found.
        found: u64,
        /// The least.
        least: u64,
        /// Seconds after which they count.
        grace: u64,
    },
    /// More time than a body has.
    #[error("the body was waited for longer than {seconds} s (LVMED_LIMIT_BODY_SECONDS)")]
    TooLong {
        /// The limit.
        seconds: u64,
    },
}

/// The error of a body that broke off because it was too slow, if it did.
pub fn slow<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Slow> {
    std::iter::successors(Some(error), |error| error.source())
        .find_map(|error| error.downcast_ref())
}

/// A body held to a pace.
#[derive(Debug)]
pub(super) struct Paced<B> {
    body: B,
    pace: Pace,
    received: u64,
    /// Crumbs that are not passed on yet.
    held: BytesMut,
    /// Time waited before the present wait.
    waited: Duration,
    waiting_since: Option<Instant>,
    alarm: Option<Pin<Box<Sleep>>>,
    /// Whom the alarm wakes.
    wakes: Option<Waker>,
    has_ended: bool,
}

type Polled = Poll<Option<Result<Frame<Bytes>, axum::Error>>>;

impl<B> Paced<B> {
    /// Holds a body to a pace.
    pub(super) fn new(body: B, pace: Pace) -> Self {
        Self {
            body,
            pace,
            received: 0,
            held: BytesMut::new(),
            waited: Duration::ZERO,
            waiting_since: None,
            alarm: None,
            wakes: None,
            has_ended: false,
        }
    }

    fn came(&mut self) {
        if let Some(since) = self.waiting_since.take() {
            self.waited += since.elapsed();
        }
    }

    /// Waits on, unless that has taken too long.
    fn wait(&mut self, context: &mut Context<'_>) -> Poll<Slow> {
        let since = *self.waiting_since.get_or_insert_with(Instant::now);
        let is_set = self.alarm.as_ref().is_some_and(|alarm| !alarm.is_elapsed());
        if is_set && self.wakes.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            return Poll::Pending;
        }
        self.wakes = Some(context.waker().clone());
        loop {
            let left = self.pace.allowed(self.received).saturating_sub(self.waited);
            let until = since + left;
            let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(until)));
            // An alarm that was set when less had come goes off early and is set anew then, which
            // costs nothing for each part.
            if alarm.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            if Instant::now() >= until {
                return Poll::Ready(self.pace.broken(self.received, self.waited + since.elapsed()));
            }
            alarm.as_mut().reset(until);
        }
    }

    fn end(&mut self, error: Option<axum::Error>) -> Polled {
        self.has_ended = true;
        Poll::Ready(error.map(Err))
    }

    fn pass_on(&mut self) -> Polled {
        Poll::Ready(Some(Ok(Frame::data(self.held.split().freeze()))))
    }
}

impl<B> HttpBody for Paced<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<axum::BoxError>,
{
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Polled {
        let this = self.get_mut();
        if this.has_ended {
            return Poll::Ready(None);
        }
        for _ in 0..PARTS_AT_A_TIME {
            let frame = match Pin::new(&mut this.body).poll_frame(context) {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    return match this.wait(context) {
                        Poll::Ready(slow) => this.end(Some(axum::Error::new(slow))),
                        Poll::Pending => Poll::Pending,
                    };
                }
            };
            this.came();
            let data = match frame {
                // Trailers are of no use to any route.
                Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
                Some(Err(error)) => return this.end(Some(axum::Error::new(error))),
                None if this.held.is_empty() => return this.end(None),
                None => return this.pass_on(),
            };
            this.received += data.len() as u64;
            if this.held.is_empty() && data.len() >= WORTHWHILE_BYTES {
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            this.held.extend_from_slice(&data);
            if this.held.len() >= WORTHWHILE_BYTES {
                return this.pass_on();
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.has_ended || (self.held.is_empty() && self.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let (mut hint, held) = (self.body.size_hint(), self.held.len() as u64);
        // Upper first: the lower bound may not pass it.
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + held);
        }
        hint.set_lower(hint.lower() + held);
        hint
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::body::Body;
    use bytes::Bytes;
    use futures_util::{StreamExt, stream};

    use super::{Pace, Paced, Slow, slow};

    const PACE: Pace = Pace {
        grace: Duration::from_millis(200),
        bytes_per_second: 10_000,
        most: Duration::from_millis(600),
    };

    /// Parts of so many bytes, each after a pause.
    fn body(parts: usize, bytes: usize, pause_ms: u64) -> Body {
        let parts = stream::iter(0..parts).then(move |_| async move {
            if pause_ms > 0 {
                tokio::time::sleep(Duration::from_millis(pause_ms)).await;
            }
            Ok::<_, std::io::Error>(Bytes::from(vec![7; bytes]))
        });
        Body::from_stream(parts)
    }

    /// The sizes of what is passed on, and what it ended in.
    async fn read(body: Body) -> (Vec<usize>, Option<Slow>) {
        let mut parts = Body::new(Paced::new(body, PACE)).into_data_stream();
        let mut sizes = Vec::new();
        while let Some(part) = parts.next().await {
            match part {
                Ok(part) => sizes.push(part.len()),
                Err(error) => return (sizes, slow(&error).copied()),
            }
        }
        (sizes, None)
    }

    #[tokio::test]
    async fn a_sender_that_keeps_the_pace_is_waited_for_and_a_slower_one_is_not() {
        let (kept, slow) = read(body(8, 1000, 50)).await;
        assert_eq!((kept.iter().sum::<usize>(), slow), (8000, None));

        let (_, slow) = read(body(50, 10, 10)).await;
        assert!(matches!(slow, Some(Slow::BelowPace { least: 10_000, .. })), "{slow:?}");
        let (_, slow) = read(body(1, 1, 2000)).await;
        assert!(matches!(slow, Some(Slow::BelowPace { found: 0, .. })), "{slow:?}");
    }

    #[tokio::test]
    async fn no_sender_is_waited_for_without_end() {
        let (_, slow) = read(body(100, 1000, 20)).await;

        assert!(matches!(slow, Some(Slow::TooLong { .. })), "{slow:?}");
    }

    #[tokio::test]
    async fn crumbs_are_put_together_and_none_is_lost() {
        let (sizes, slow) = read(body(100_000, 1, 0)).await;

        assert_eq!((sizes.iter().sum::<usize>(), slow), (100_000, None));
        assert!(sizes.len() <= 7, "{sizes:?}");
        let (sizes, _) = read(body(3, 40_000, 0)).await;
        assert_eq!(sizes, [40_000; 3]);
    }
}
