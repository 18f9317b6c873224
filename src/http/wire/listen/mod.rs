//! Accepting connections and serving each within its bounds, so that no client can keep others out.
//!
//! A connection waits for its client (no request is on it) or works. Whoever waits longest makes room
//! when there is none; where all work, the places in reserve still answer whether the server lives.

mod activity;
mod descriptors;
mod pace;
mod places;
mod pump;
mod reserved;
mod socket;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use self::activity::Answering;
use self::places::{Place, Places};
use self::pump::Served;
use self::socket::Socket;
use crate::config::Connections;

pub use self::descriptors::make_room;
pub use self::pace::{Pace, Slow, slow};
pub use self::places::Purpose;
pub use self::reserved::{PROBES, Reserved, answer_probes_only};

/// Pause after a connection could not be accepted, as when the process has no descriptor left.
const PAUSE: Duration = Duration::from_millis(100);
/// Memory of one connection for what was read and not yet taken, or not yet sent, beside the head.
const BUFFER_BYTES: usize = 128 << 10;
/// Seconds for the head of a request on a connection in reserve: probes have little to say.
const RESERVED_HEAD_SECONDS: u64 = 2;

/// Serves until `stopping` is cancelled, and then what is still under way.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    bounds: Connections,
    purpose: Purpose,
    stopping: CancellationToken,
) {
    let connections = TaskTracker::new();
    let places = Arc::new(Places::new(&bounds, purpose));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopping.cancelled() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let place = places.take(peer.ip());
                let connection = Connection {
                    place,
                    peer,
                    router: router.clone(),
                    bounds: bounds.clone(),
                    stopping: stopping.clone(),
                };
                connections.spawn(connection.serve(stream));
            }
            Err(error) => failed(&places, &error).await,
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// A client that went away before it was accepted is nobody's trouble; all else passes with time.
async fn failed(places: &Places, error: &io::Error) {
    let gone = [io::ErrorKind::ConnectionAborted, io::ErrorKind::ConnectionReset];
    if gone.contains(&error.kind()) {
        return;
    }
    tracing::warn!(%error, "a connection cannot be accepted");
    places.close_longest_waiting();
    tokio::time::sleep(PAUSE).await;
}

/// A connection that was accepted.
struct Connection {
    place: Place,
    peer: SocketAddr,
    router: Router,
    bounds: Connections,
    stopping: CancellationToken,
}

impl Connection {
    async fn serve(self, stream: TcpStream) {
        let Self { place, peer, router, mut bounds, stopping } = self;
        let reserved = place.is_reserved();
        if reserved {
            bounds.head_seconds = bounds.head_seconds.min(RESERVED_HEAD_SECONDS);
        }
        let activity = place.activity();
        let socket = Socket::new(stream, &bounds, Arc::clone(&activity));
        let pace = Pace::new(&bounds);
        let service = service_fn(|request: Request<Incoming>| {
            let answering = Answering::begin(&activity);
            let (parts, body) = request.into_parts();
            let (body, pump) = pump::split(body, pace);
            let mut request = Request::from_parts(parts, body);
            request.extensions_mut().insert(ConnectInfo(peer));
            if reserved {
                request.extensions_mut().insert(Reserved);
            }
            let answer = router.clone().oneshot(request);
            let answer = async move {
                let response: Response<Body> = answer.await?;
                Ok::<_, Infallible>(response.map(|body| answering.until_sent(body)))
            };
            Served::new(answer, pump)
        });
        let connection = http1::Builder::new()
            .keep_alive(!reserved)
            .max_header_size(bounds.head_bytes as usize)
            .max_buf_size(BUFFER_BYTES.max(bounds.head_bytes as usize))
            // Time is kept by the socket, which knows a pause between requests from a slow head.
            .header_read_timeout(None::<Duration>)
            .serve_connection(TokioIo::new(socket), service);
        let mut connection = std::pin::pin!(connection);
        let mut is_ending = false;
        loop {
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "a connection broke off");
                    }
                    return;
                }
                () = place.closed() => return,
                () = stopping.cancelled(), if !is_ending => {
                    is_ending = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }
}
