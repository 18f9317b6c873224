//! Reading some of what a refused request still sends, so that its client gets to read the answer.
//!
//! A client that is still sending when the connection is closed on it often sees a broken pipe
//! instead of the answer that was written. What is drained is bounded in bytes and in time.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::extract::Request;
use axum::http::header::EXPECT;
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};

/// The number of bytes that a refused client may still send before it is cut off.
const MOST_BYTES: usize = 16 << 20;
const MOST_TIME: Duration = Duration::from_secs(2);

/// Passes the request on; when it is refused, drains the rest of its body.
pub async fn drain(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    // Whoever asked first whether to send has sent nothing yet, and needs nothing drained.
    let asks_first = parts.headers.contains_key(EXPECT);
    let shared = Shared::new(body);
    let body = Body::from_stream(shared.clone());
    let response = next.run(Request::from_parts(parts, body)).await;
    let is_refused = response.status().is_client_error() || response.status().is_server_error();
    if is_refused && (shared.was_read() || !asks_first) {
        shared.rest().await;
    }
    response
}

/// A body that can be read on after its reader has gone.
#[derive(Clone)]
struct Shared {
    stream: Arc<Mutex<BodyDataStream>>,
    was_read: Arc<AtomicBool>,
}

impl Shared {
    fn new(body: Body) -> Self {
        let stream = Arc::new(Mutex::new(body.into_data_stream()));
        Self { stream, was_read: Arc::default() }
    }

    fn was_read(&self) -> bool {
        self.was_read.load(Ordering::Acquire)
    }

    async fn rest(mut self) {
        let reading = async {
            let mut read = 0;
            while let Some(Ok(part)) = self.next().await {
                read += part.len();
                if read > MOST_BYTES {
                    break;
                }
            }
        };
        // That it was not all read in time only means that the client may miss the answer.
        let _ = tokio::time::timeout(MOST_TIME, reading).await;
    }
}

impl Stream for Shared {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.was_read.store(true, Ordering::Release);
        // Never contended: the reader has gone before the rest is read.
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        stream.poll_next_unpin(context)
    }
}
