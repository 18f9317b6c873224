//! A connection's socket, which gives up a client that keeps the server waiting.
//!
//! Three waits are bounded here: for a whole head, between two requests, and for a client to take
//! something of its answer. How fast a body comes is the matter of `pace`.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

use super::activity::Activity;
use crate::config::Connections;

/// The purpose for which a socket is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// The rest of a head, until then.
    Head(Instant),
    /// The next request, until then.
    Nothing(Instant),
    /// The bytes that belong to a request under way.
    Request,
}

/// A connection's socket.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    activity: Arc<Activity>,
    head: Duration,
    idle: Duration,
    send: Duration,
    reading: Reading,
    reading_alarm: Alarm,
    writing_alarm: Alarm,
    /// Until when the client must take something; none while it does.
    sent_by: Option<Instant>,
    /// Requests that the socket knows of.
    seen: u64,
}

impl Socket {
    /// Takes a new connection on.
    pub(super) fn new(stream: TcpStream, bounds: &Connections, activity: Arc<Activity>) -> Self {
        let send = Duration::from_secs(bounds.send_seconds);
        prepare(&stream, send);
        let head = Duration::from_secs(bounds.head_seconds);
        Self {
            stream,
            activity,
            head,
            idle: Duration::from_secs(bounds.idle_seconds),
            send,
            // The first request is expected at once.
            reading: Reading::Head(Instant::now() + head),
            reading_alarm: Alarm::default(),
            writing_alarm: Alarm::default(),
            sent_by: None,
            seen: 0,
        }
    }

    /// Sees whether a request came or ended since the last look.
    fn look(&mut self) {
        let begun = self.activity.begun();
        if self.activity.waiting_since().is_none() {
            self.reading = Reading::Request;
        } else if self.reading == Reading::Request || self.seen != begun {
            // A request may have come and been answered between two looks.
            self.reading = Reading::Nothing(Instant::now() + self.idle);
        }
        self.seen = begun;
    }

    /// The outcome of writing, unless the client has taken nothing for too long.
    fn written<T>(
        &mut self,
        context: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.sent_by = None;
            return outcome;
        }
        let until = *self.sent_by.get_or_insert_with(|| Instant::now() + self.send);
        ready!(self.writing_alarm.poll(context, until));
        Poll::Ready(Err(late("the client takes nothing of its answer")))
    }
}

/// Answers are not held back for more of them, and a peer that is gone for good is noticed: both are
/// improvements, without which the connection still works.
fn prepare(stream: &TcpStream, send: Duration) {
    let _ = stream.set_nodelay(true);
    let _ = rustix::net::sockopt::set_socket_keepalive(stream, true);
    let milliseconds = u32::try_from(send.as_millis()).unwrap_or(u32::MAX);
    let _ = rustix::net::sockopt::set_tcp_user_timeout(stream, milliseconds);
}

fn late(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.look();
        let before = buffer.filled().len();
        if let Poll::Ready(outcome) = Pin::new(&mut this.stream).poll_read(context, buffer) {
            let came = buffer.filled().len() > before;
            if came && let Reading::Nothing(_) = this.reading {
                this.reading = Reading::Head(Instant::now() + this.head);
            }
            // Small pieces that keep coming do not stop the clock.
            return match this.reading {
                Reading::Head(until) if came && Instant::now() >= until => {
                    Poll::Ready(Err(late("the head of the request did not come in time")))
                }
                Reading::Head(_) | Reading::Nothing(_) | Reading::Request => Poll::Ready(outcome),
            };
        }
        let (until, what) = match this.reading {
            Reading::Request => {
                this.activity.wake_when_waiting(context);
                return Poll::Pending;
            }
            Reading::Head(until) => (until, "the head of the request did not come in time"),
            Reading::Nothing(until) => (until, "no further request came"),
        };
        ready!(this.reading_alarm.poll(context, until));
        Poll::Ready(Err(late(what)))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.written(context, outcome)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_write_vectored(context, slices);
        this.written(context, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

/// A timer that is made when it is first needed.
#[derive(Debug, Default)]
struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    fn poll(&mut self, context: &mut Context<'_>, until: Instant) -> Poll<()> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(until)));
        if sleep.deadline() != until {
            sleep.as_mut().reset(until);
        }
        sleep.as_mut().poll(context)
    }
}
