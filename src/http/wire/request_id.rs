//! A name for every request, in its answer, its problem and its log lines.

use uuid::Uuid;

/// The header that carries it.
pub const HEADER: &str = "x-request-id";

tokio::task_local! {
    static CURRENT: String;
}

/// A fresh name. A name that the client sends is not taken over: it would be written to the log.
pub fn fresh() -> String {
    Uuid::now_v7().to_string()
}

/// Runs `work` under this name.
pub async fn scope<T>(id: String, work: impl Future<Output = T>) -> T {
    CURRENT.scope(id, work).await
}

/// The name of the request that is being answered; empty outside of one.
pub fn current() -> String {
    CURRENT.try_with(Clone::clone).unwrap_or_default()
}
