//! The shapes of what handlers answer: lists, pages, and things that were just made.

use axum::http::header::LOCATION;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// A JSON answer.
pub use axum::Json;

/// All of something.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Items<T> {
    /// The things.
    pub items: Vec<T>,
}

impl<T> Items<T> {
    /// These things, as JSON.
    pub fn json(items: Vec<T>) -> Json<Self> {
        Json(Self { items })
    }
}

/// Some of many things.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Page<T> {
    /// The things.
    pub items: Vec<T>,
    /// Where the next page starts; null on the last one.
    #[schema(required)]
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// A page of `limit` things out of up to one more, which only tells that there is more.
    pub fn json(mut items: Vec<T>, limit: u32, cursor: impl Fn(&T) -> String) -> Json<Self> {
        let limit = limit as usize;
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(cursor);
        Json(Self { items, next })
    }
}

/// Something that the request made (201), or that was there already (200).
#[derive(Debug, Clone)]
pub struct Created<T> {
    /// The address where it is.
    pub location: String,
    /// The thing itself.
    pub body: T,
    /// Whether it is new.
    pub new: bool,
}

impl<T> Created<T> {
    /// A thing that was just made.
    pub fn at(location: String, body: T) -> Self {
        Self { location, body, new: true }
    }
}

impl<T: Serialize> IntoResponse for Created<T> {
    fn into_response(self) -> Response {
        let status = if self.new { StatusCode::CREATED } else { StatusCode::OK };
        located(status, &self.location, self.body)
    }
}

/// Work that was taken on and will be done later (202).
#[derive(Debug, Clone)]
pub struct Accepted<T> {
    /// The address where it can be watched.
    pub location: String,
    /// The thing itself.
    pub body: T,
}

impl<T: Serialize> IntoResponse for Accepted<T> {
    fn into_response(self) -> Response {
        located(StatusCode::ACCEPTED, &self.location, self.body)
    }
}

fn located<T: Serialize>(status: StatusCode, location: &str, body: T) -> Response {
    let mut response = (status, Json(body)).into_response();
    if let Ok(location) = HeaderValue::from_str(location) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::Page;

    #[test]
    fn a_page_names_the_next_one_only_when_there_is_more() {
        let full = Page::json(vec![1, 2, 3], 2, ToString::to_string);
        let last = Page::json(vec![1, 2], 2, ToString::to_string);

        assert_eq!((full.0.items, full.0.next), (vec![1, 2], Some("2".to_owned())));
        assert_eq!((last.0.items, last.0.next), (vec![1, 2], None));
    }
}
