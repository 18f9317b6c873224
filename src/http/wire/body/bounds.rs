//! Reading bodies within bounds: so many bytes, with so much time between two parts of them.

use std::io;
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use bytes::Bytes;
use futures_util::StreamExt;

use crate::domain::Size;
use crate::http::wire::problem::{Code, Problem};
use crate::http::wire::{listen, standing};

/// The bounds of one body.
#[derive(Debug, Clone, Copy)]
pub struct Most {
    /// Bytes in all.
    pub bytes: u64,
    /// The setting that raises the number of bytes.
    pub setting: &'static str,
    /// Time between two parts.
    pub idle: Duration,
}

impl Most {
    /// Fails when `found` bytes are too many.
    pub fn check(&self, found: u64) -> Result<(), Problem> {
        if found <= self.bytes {
            return Ok(());
        }
        let Self { bytes, setting, .. } = self;
        let detail =
            format!("the body has more than {}, which is the limit ({setting})", Size(*bytes));
        Err(Problem::new(Code::TooLarge, detail))
    }

    /// Waits for a part, but not longer than the bounds allow.
    pub async fn wait<T>(&self, part: impl Future<Output = T>) -> Result<T, Problem> {
        tokio::time::timeout(self.idle, part).await.map_err(|_| {
            let seconds = self.idle.as_secs();
            let setting = "LVMED_LIMIT_UPLOAD_IDLE_SECONDS";
            Problem::new(Code::Timeout, format!("nothing came for {seconds} s ({setting})"))
        })
    }
}

/// A body that is read part by part.
#[derive(Debug)]
pub struct Parts {
    stream: BodyDataStream,
    most: Most,
    found: u64,
}

impl Parts {
    /// Starts to read.
    pub fn new(body: Body, most: Most) -> Self {
        Self { stream: body.into_data_stream(), most, found: 0 }
    }

    /// The next part; none at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        let Some(part) = self.most.wait(self.stream.next()).await? else { return Ok(None) };
        let part = part.map_err(broken_off)?;
        self.found += part.len() as u64;
        self.most.check(self.found)?;
        Ok(Some(part))
    }
}

/// A whole body in memory.
pub async fn collect(body: Body, most: &Most) -> Result<Vec<u8>, Problem> {
    let mut parts = Parts::new(body, *most);
    let mut whole = Vec::new();
    while let Some(part) = parts.next().await? {
        whole.extend_from_slice(&part);
    }
    Ok(whole)
}

/// The client went away or sent something that is not HTTP, unless it was cut off here.
fn broken_off(error: axum::Error) -> Problem {
    let broken =
        |error: axum::Error| Problem::new(Code::BadRequest, format!("the body broke off: {error}"));
    cut_off(&error).unwrap_or_else(|| broken(error))
}

/// The reason why the server itself cut a body off, if it did: too slow, or its key was revoked
/// meanwhile.
pub fn cut_off(error: &(dyn std::error::Error + 'static)) -> Option<Problem> {
    let slow = listen::slow(error).map(|slow| Problem::new(Code::Timeout, slow.to_string()));
    slow.or_else(|| {
        standing::lost(error).map(|lost| Problem::new(Code::Unauthorized, lost.to_string()))
    })
}

/// Writing to the spool failed; a full disk is the caller's to know.
pub fn spool_failed(error: io::Error) -> Problem {
    crate::store::StoreError::from(error).into()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::body::Body;

    use super::{Most, collect};
    use crate::http::wire::problem::{Code, Problem};

    const MOST: Most = Most { bytes: 4, setting: "LVMED_LIMIT_X", idle: Duration::from_millis(20) };

    #[tokio::test]
    async fn a_body_may_have_exactly_as_many_bytes_as_allowed() {
        let exact = collect(Body::from("abcd"), &MOST).await;
        let over = collect(Body::from("abcde"), &MOST).await;

        assert_eq!(exact, Ok(b"abcd".to_vec()));
        assert_eq!(over.as_ref().map_err(Problem::code), Err(Code::TooLarge));
    }

    #[tokio::test]
    async fn a_client_that_falls_silent_is_given_up() {
        let silent = futures_util::stream::pending::<Result<Vec<u8>, std::io::Error>>();

        let found = collect(Body::from_stream(silent), &MOST).await;

        assert_eq!(found.as_ref().map_err(Problem::code), Err(Code::Timeout));
    }
}
