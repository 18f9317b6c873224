//! The arguments of handlers: ids, queries and JSON bodies, whose refusals are problems.

use std::str::FromStr;
use std::time::Duration;

use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::body::bounds::{Most, collect};
use super::problem::{Code, Problem};
use crate::http::app::App;
use crate::service::violation::Violation;

/// The longest text taken from a query or a form field, in characters.
pub const MAX_TEXT_CHARS: usize = 1000;
/// The longest `Idempotency-Key`.
const MAX_KEY_BYTES: usize = 255;

/// The `{id}` of the path. What is no id names nothing, so that it is not found.
#[derive(Debug, Clone, Copy)]
pub struct Id<T>(pub T);

impl<T: FromStr, S: Send + Sync> FromRequestParts<S> for Id<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let text = path_parameter(parts, state, "id").await?;
        text.parse().map(Self).map_err(|_| Problem::missing("thing with the id", text))
    }
}

/// The `{name}` of the path.
#[derive(Debug, Clone)]
pub struct FileName(pub String);

impl<S: Send + Sync> FromRequestParts<S> for FileName {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        path_parameter(parts, state, "name").await.map(Self)
    }
}

async fn path_parameter<S: Send + Sync>(
    parts: &mut Parts,
    state: &S,
    name: &str,
) -> Result<String, Problem> {
    let unreadable = || Problem::new(Code::NotFound, "the path is not readable text");
    let found = RawPathParams::from_request_parts(parts, state).await.map_err(|_| unreadable())?;
    let value = found.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_owned());
    value.ok_or_else(unreadable)
}

/// The query string.
#[derive(Debug, Clone)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let axum::extract::Query(query) = axum::extract::Query::try_from_uri(&parts.uri)?;
        Ok(Self(query))
    }
}

/// A JSON body, of at most `limits.json_bytes`.
#[derive(Debug, Clone)]
pub struct JsonBody<T>(pub T);

impl<T: DeserializeOwned> FromRequest<App> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        Self::of(&json_body(request, app).await?)
    }
}

impl<T: DeserializeOwned> JsonBody<T> {
    pub(crate) fn of(bytes: &[u8]) -> Result<Self, Problem> {
        let axum::Json(value) = axum::Json::from_bytes(bytes)?;
        Ok(Self(value))
    }
}

/// The bytes of a JSON body, at most `limits.json_bytes`.
pub(crate) async fn json_body(request: Request, app: &App) -> Result<Vec<u8>, Problem> {
    if !is_json(request.headers()) {
        return Err(Problem::new(
            Code::UnsupportedMediaType,
            "the body must be JSON, with the header `Content-Type: application/json`",
        ));
    }
    let most = Most {
        bytes: app.limits.json_bytes as u64,
        setting: "LVMED_LIMIT_JSON_BYTES",
        idle: Duration::from_secs(app.limits.upload_idle_seconds),
    };
    collect(request.into_body(), &most).await
}

fn is_json(headers: &HeaderMap) -> bool {
    let text = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}

/// The caller's `Idempotency-Key`: asking twice with one key does it once.
#[derive(Debug, Clone)]
pub struct IdempotencyKey(pub Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let Some(header) = parts.headers.get("idempotency-key") else { return Ok(Self(None)) };
        let text = header.to_str().unwrap_or_default();
        if text.is_empty() || text.len() > MAX_KEY_BYTES {
            let detail = format!("must be 1 to {MAX_KEY_BYTES} printable ASCII characters");
            return Err(Problem::wrong("Idempotency-Key", detail));
        }
        Ok(Self(Some(text.to_owned())))
    }
}

/// Collects what is wrong with texts and numbers of a request, so that all of it is told at once.
#[derive(Debug, Default)]
pub struct Checks(Vec<Violation>);

impl Checks {
    /// A text that is stored or compared: not too long, on one line.
    pub fn text(&mut self, pointer: &str, text: Option<&str>) -> &mut Self {
        let Some(text) = text else { return self };
        let found = text.chars().count();
        if found > MAX_TEXT_CHARS {
            self.fail(pointer, format!("has {found} characters; the limit is {MAX_TEXT_CHARS}"));
        }
        if text.chars().any(char::is_control) {
            self.fail(pointer, "must not hold control characters");
        }
        self
    }

    /// A number that must lie in a range.
    pub fn within(&mut self, pointer: &str, found: Option<u32>, low: u32, high: u32) -> &mut Self {
        match found {
            Some(found) if !(low..=high).contains(&found) => {
                self.fail(pointer, format!("is {found}; {low} to {high} is allowed"))
            }
            Some(_) | None => self,
        }
    }

    /// Something else is wrong.
    pub fn fail(&mut self, pointer: &str, detail: impl std::fmt::Display) -> &mut Self {
        self.0.push(Violation::new(pointer, format!("{pointer} {detail}")));
        self
    }

    /// Goes on only when nothing was wrong.
    pub fn done(&mut self) -> Result<(), Problem> {
        if self.0.is_empty() { Ok(()) } else { Err(Problem::invalid(std::mem::take(&mut self.0))) }
    }
}

/// The number of items that a page has: `limit`, else the default.
pub fn page_size(limit: Option<u32>) -> Result<u32, Problem> {
    Checks::default().within("limit", limit, 1, 1000).done()?;
    Ok(limit.unwrap_or(100))
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, HeaderValue};

    use super::{Checks, is_json, page_size};

    #[test]
    fn pages_have_1_to_1000_items() {
        assert_eq!(page_size(None).ok(), Some(100));
        assert_eq!(page_size(Some(1)).ok(), Some(1));
        assert_eq!(page_size(Some(1000)).ok(), Some(1000));
        assert!(page_size(Some(0)).is_err());
        assert!(page_size(Some(1001)).is_err());
    }

    #[test]
    fn texts_hold_no_nul_and_everything_wrong_is_told() {
        let mut checks = Checks::default();
        let checks = checks.text("label", Some("a\0b")).text("file", Some(&"x".repeat(1001)));

        let problem = checks.done().expect_err("both are wrong");

        assert!(problem.detail().contains("label") && problem.detail().contains("1001"));
    }

    #[test]
    fn json_is_known_by_its_media_type() {
        let named = |text| {
            HeaderMap::from_iter([(
                axum::http::header::CONTENT_TYPE,
                HeaderValue::from_static(text),
            )])
        };

        assert!(is_json(&named("application/json; charset=utf-8")));
        assert!(!is_json(&named("text/plain")));
        assert!(!is_json(&HeaderMap::new()));
    }
}
