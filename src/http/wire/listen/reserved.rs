//! Connections in reserve: while all others are taken they still tell whether the server lives.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::http::wire::problem::{Code, Problem};

/// The paths that are answered on a connection in reserve.
pub const PROBES: [&str; 3] = ["/livez", "/readyz", "/metrics"];

/// Marks a request that came in on a connection in reserve.
#[derive(Debug, Clone, Copy)]
pub struct Reserved;

/// Refuses everything but probes where the connection is one of those in reserve.
pub async fn answer_probes_only(request: Request, next: Next) -> Response {
    let reserved = request.extensions().get::<Reserved>().is_some();
    if !reserved || PROBES.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    let detail = "all connections are taken (LVMED_LIMIT_CONNECTIONS, or \
                  LVMED_LIMIT_CONNECTIONS_PER_ADDRESS for one address), or the address is for \
                  probes only; this one answers /livez, /readyz and /metrics. Try again in a moment";
    Problem::new(Code::Unavailable, detail).into_response()
}
