//! Errors as HTTP: the only place where statuses are decided (RFC 9457); `causes` says which
//! problem each failure is.
//!
//! What a caller can act on is told in `detail` and `errors`. What only an operator can act on is
//! logged here, once, with the request's id, and never sent.

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::request_id;
use crate::nn::trace::without_trace;
use crate::service::violation::Violation;

/// Things that are told in the one sentence of a problem; `errors` lists the others.
const TOLD: usize = 3;
/// Things that `errors` lists at most.
const LISTED: usize = 50;
/// Seconds after which a busy server may be asked again.
const RETRY_SECONDS: u16 = 2;

/// What kind of problem it is, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The request is not well formed.
    BadRequest,
    /// The request is well formed, but what it says cannot be used.
    Invalid,
    /// There is no such thing.
    NotFound,
    /// An API key is needed, or the one given is not valid.
    Unauthorized,
    /// The caller's role does not reach.
    Forbidden,
    /// The state of the thing does not allow it.
    Conflict,
    /// The body is larger than allowed.
    TooLarge,
    /// The body is of a kind that is not read here.
    UnsupportedMediaType,
    /// A queue is full; ask again later.
    Busy,
    /// The disk is full.
    StorageFull,
    /// Something that the server needs is not there now.
    Unavailable,
    /// It took too long.
    Timeout,
    /// The route does not know the method.
    MethodNotAllowed,
    /// A stored file is damaged or missing, or a model gave no numbers.
    Damaged,
    /// The server failed; the log says why.
    Internal,
}

impl Code {
    /// The HTTP status.
    pub fn status(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::Conflict => StatusCode::CONFLICT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Busy => StatusCode::TOO_MANY_REQUESTS,
            Self::StorageFull => StatusCode::INSUFFICIENT_STORAGE,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Timeout => StatusCode::REQUEST_TIMEOUT,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Damaged | Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::BadRequest => "The request is malformed",
            Self::Invalid => "The request cannot be used",
            Self::NotFound => "Not found",
            Self::Unauthorized => "An API key is needed",
            Self::Forbidden => "Not allowed",
            Self::Conflict => "Not possible in the present state",
            Self::TooLarge => "Too large",
            Self::UnsupportedMediaType => "Unsupported media type",
            Self::Busy => "Too many requests",
            Self::StorageFull => "The disk is full",
            Self::Unavailable => "Temporarily unavailable",
            Self::Timeout => "Timed out",
            Self::MethodNotAllowed => "Method not allowed",
            Self::Damaged => "What is stored is damaged",
            Self::Internal => "The server failed",
        }
    }
}

/// An error (RFC 9457).
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Body {
    /// Always `about:blank`; `code` tells problems apart.
    #[serde(rename = "type")]
    #[schema(example = "about:blank")]
    pub kind: &'static str,
    /// Short and the same for all problems of one code.
    pub title: &'static str,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    pub status: u16,
    /// What happened, for people to read.
    pub detail: String,
    /// What kind of problem it is, for programs.
    pub code: Code,
    /// Names the request in the server's log.
    pub request_id: String,
    /// Each thing that is wrong with the request. Of a long list the first ones; the last entry then
    /// says how many more there are.
    pub errors: Vec<Violation>,
}

/// An error on its way to the caller.
#[derive(Debug, PartialEq, Eq)]
pub struct Problem {
    code: Code,
    detail: String,
    errors: Vec<Violation>,
    /// The cause that only the log may tell.
    cause: Option<String>,
}

impl Problem {
    /// A problem of `code`, told in words. Lines under the first one are a list: its first entries
    /// join the sentence, and all of them are `errors`.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        let detail = told(detail);
        let Some((head, list)) = detail.split_once('\n') else {
            return Self { code, detail, errors: Vec::new(), cause: None };
        };
        let lines: Vec<&str> = list.lines().collect();
        let errors = lines.iter().map(|line| Violation::new("", *line)).collect();
        let detail = format!("{head} {}", first_few(&lines));
        Self { code, detail, errors: capped(errors), cause: None }
    }

    /// There is no `what` of this name.
    pub fn missing(what: &str, name: impl std::fmt::Display) -> Self {
        let name: String = name.to_string().chars().take(80).collect();
        Self::new(Code::NotFound, format!("there is no {what} {name:?}"))
    }

    /// Things that are wrong with the request, all of them.
    pub fn invalid(errors: Vec<Violation>) -> Self {
        let mut told: Vec<&str> = Vec::new();
        for error in &errors {
            // One thing may be wrong in two places.
            if !told.contains(&error.detail.as_str()) {
                told.push(&error.detail);
            }
        }
        Self::listing(first_few(&told), errors)
    }

    /// Something is wrong with the request that takes one sentence to tell and a list to show.
    pub fn listing(detail: impl Into<String>, errors: Vec<Violation>) -> Self {
        Self { errors: capped(errors), ..Self::new(Code::Invalid, detail) }
    }

    /// One thing is wrong with the request.
    pub fn wrong(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::invalid(vec![Violation::new(pointer, detail)])
    }

    /// The server failed; `cause` is logged and never sent.
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        let detail = "the server could not do this; its log says why under the request id";
        Self { cause: Some(cause.to_string()), ..Self::new(Code::Internal, detail) }
    }

    /// Something that the server needs is not there now; `cause` is logged and never sent.
    pub fn unavailable(what: &str, cause: impl std::fmt::Display) -> Self {
        let detail = format!("{what} cannot be reached now; try again in a moment");
        Self { cause: Some(cause.to_string()), ..Self::new(Code::Unavailable, detail) }
    }

    /// The same problem with one more thing told of it.
    #[must_use]
    pub fn adding(mut self, more: impl std::fmt::Display) -> Self {
        self.detail = format!("{}. {more}", self.detail);
        self
    }

    /// The kind of problem that it is.
    pub fn code(&self) -> Code {
        self.code
    }

    /// Each thing that is wrong with the request.
    pub fn errors(&self) -> &[Violation] {
        &self.errors
    }

    /// The detail that is told of it.
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

/// As much of a list as a sentence bears.
fn first_few(told: &[&str]) -> String {
    let more = told.len().saturating_sub(TOLD);
    let shown: Vec<&str> = told.iter().take(TOLD).copied().collect();
    let rest = if more > 0 { format!("; and {more} more") } else { String::new() };
    shown.join("; ") + &rest
}

/// As much of a list as an answer bears.
fn capped(mut errors: Vec<Violation>) -> Vec<Violation> {
    let more = errors.len().saturating_sub(LISTED);
    if more > 0 {
        errors.truncate(LISTED);
        errors.push(Violation::new("", format!("and {more} more")));
    }
    errors
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.code.status();
        if let Some(cause) = &self.cause {
            tracing::error!(code = ?self.code, %cause, "the request failed");
        }
        let body = Body {
            kind: "about:blank",
            title: self.code.title(),
            status: status.as_u16(),
            detail: self.detail,
            code: self.code,
            request_id: request_id::current(),
            errors: self.errors,
        };
        let mut response = (status, axum::Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match self.code {
            Code::Busy | Code::Unavailable => {
                headers.insert(RETRY_AFTER, HeaderValue::from(RETRY_SECONDS));
            }
            Code::Unauthorized => {
                let scheme = HeaderValue::from_static("Bearer realm=\"lvmed\"");
                headers.insert(axum::http::header::WWW_AUTHENTICATE, scheme);
            }
            Code::BadRequest
            | Code::Invalid
            | Code::NotFound
            | Code::Forbidden
            | Code::Conflict
            | Code::TooLarge
            | Code::UnsupportedMediaType
            | Code::StorageFull
            | Code::Timeout
            | Code::MethodNotAllowed
            | Code::Damaged
            | Code::Internal => {}
        }
        response
    }
}

/// No route has this path.
pub async fn unknown_route() -> Problem {
    Problem::new(Code::NotFound, "nothing is served under this path; see /docs")
}

/// The route has no such method; axum adds `Allow`.
pub async fn unknown_method() -> Problem {
    Problem::new(Code::MethodNotAllowed, "this path does not know the method; `Allow` lists those")
}

/// The text that may be told: whatever a library puts behind its errors, no backtrace leaves the
/// server.
fn told(detail: impl Into<String>) -> String {
    let mut detail = detail.into();
    let end = without_trace(&detail).len();
    detail.truncate(end);
    detail
}

/// A handler panicked; the panic's own message is logged and never sent.
#[expect(clippy::needless_pass_by_value, reason = "the signature that the layer asks for")]
pub fn panicked(payload: Box<dyn std::any::Any + Send>) -> Response {
    let text = payload.downcast_ref::<&str>().map(ToString::to_string);
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
    Problem::internal(format!("a handler panicked: {}", text.unwrap_or_default())).into_response()
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use axum::response::IntoResponse;

    use super::{Code, Problem};
    use crate::service::violation::Violation;
    use crate::store::StoreError;

    async fn sent(problem: Problem) -> (StatusCode, serde_json::Value) {
        let response = problem.into_response();
        let status = response.status();
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 16).await.expect("a body");
        (status, serde_json::from_slice(&bytes).expect("JSON"))
    }

    #[tokio::test]
    async fn what_only_the_operator_may_know_is_not_sent() {
        let error = StoreError::Database(sqlx::Error::Protocol("secret table".to_owned()));

        let (status, body) = sent(error.into()).await;

        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(body["code"], "internal");
        assert!(!body.to_string().contains("secret"), "{body}");
    }

    #[tokio::test]
    async fn a_full_disk_is_507_and_a_lost_database_503() {
        let (full, _) = sent(StoreError::Full.into()).await;
        let (lost, _) = sent(StoreError::Database(sqlx::Error::PoolTimedOut).into()).await;

        assert_eq!(full, StatusCode::INSUFFICIENT_STORAGE);
        assert_eq!(lost, StatusCode::SERVICE_UNAVAILABLE);
    }

    #[tokio::test]
    async fn every_violation_is_listed_with_its_pointer() {
        let errors = vec![Violation::new("/shots", "too many"), Violation::new("/seed", "odd")];

        let (status, body) = sent(Problem::invalid(errors)).await;

        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(body["errors"][1]["pointer"], "/seed");
        assert_eq!(body["detail"], "too many; odd");
    }

    #[tokio::test]
    async fn of_many_violations_the_sentence_tells_three_and_the_list_fifty_with_a_count() {
        let errors = (0..155).map(|n| Violation::new("/file", format!("tensor {n}"))).collect();

        let (_, body) = sent(Problem::invalid(errors)).await;

        assert_eq!(body["detail"], "tensor 0; tensor 1; tensor 2; and 152 more");
        assert_eq!(body["errors"].as_array().map(Vec::len), Some(51));
        assert_eq!(body["errors"][50]["detail"], "and 105 more");
    }

    #[tokio::test]
    async fn a_list_under_a_sentence_becomes_one_sentence_and_the_errors() {
        let (_, body) = sent(Problem::new(Code::Invalid, "rows are wrong:\na\nb\nc\nd")).await;

        assert_eq!(body["detail"], "rows are wrong: a; b; c; and 1 more");
        assert_eq!(body["errors"].as_array().map(Vec::len), Some(4));
    }

    #[tokio::test]
    async fn what_is_wrong_in_two_places_is_told_once() {
        let errors = vec![
            Violation::new("/a", "too large"),
            Violation::new("/b", "odd"),
            Violation::new("/c", "too large"),
        ];

        let (_, body) = sent(Problem::invalid(errors)).await;

        assert_eq!(body["detail"], "too large; odd");
        assert_eq!(body["errors"].as_array().map(Vec::len), Some(3));
    }

    #[test]
    fn busy_answers_say_when_to_ask_again() {
        let response = Problem::new(Code::Busy, "full").into_response();

        assert_eq!(response.headers()["retry-after"], "2");
    }
}
