//! The words of the OpenAPI document on every route alike: its refusals, and bytes that have no
//! fields.

use std::collections::BTreeMap;

use utoipa::IntoResponses;
use utoipa::openapi::{Content, Header, Ref, RefOr, Response, ResponseBuilder};

use super::problem::Code;

/// The name under which the document keeps the schema of problems.
pub const PROBLEM_SCHEMA: &str = "Problem";

/// Raw bytes.
#[derive(Debug, utoipa::ToSchema)]
#[schema(value_type = String, format = Binary)]
pub struct Bytes(#[expect(dead_code, reason = "only its schema is used")] Vec<u8>);

/// Defines a set of refusals for `responses(…)`.
macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident: $($code:ident),+;)+) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                [$(Code::$code),+].into_iter().map(documented).collect()
            }
        }
    )+};
}

refusals! {
    /// The refusals that any route of the API may answer instead.
    Guarded: Unauthorized, Forbidden, Internal, Unavailable;
    /// The thing named in the path is not there.
    Missing: NotFound;
    /// The request cannot be used as it is.
    Invalid: Invalid;
    /// The state of the thing does not allow it.
    Conflict: Conflict;
    /// A queue is full.
    Busy: Busy;
    /// There is no room for what would be stored.
    StorageFull: StorageFull;
    /// The JSON body cannot be used.
    BadJson: BadRequest, Timeout, TooLarge, UnsupportedMediaType, Invalid;
    /// The streamed body cannot be taken.
    BadUpload: BadRequest, Timeout, TooLarge, Invalid, Busy, StorageFull;
    /// The pictures cannot be answered for.
    BadPictures: BadRequest, Timeout, TooLarge, Invalid, Busy;
    /// Something that the server needs is not there now.
    NotReady: Unavailable;
}

fn documented(code: Code) -> (String, RefOr<Response>) {
    let problem = Content::new(Some(Ref::from_schema_name(PROBLEM_SCHEMA)));
    let mut response = ResponseBuilder::new()
        .description(described(code))
        .content("application/problem+json", problem);
    if matches!(code, Code::Busy | Code::Unavailable) {
        let mut header = Header::default();
        header.description = Some("Seconds after which to ask again".to_owned());
        response = response.header("Retry-After", header);
    }
    (code.status().as_u16().to_string(), response.build().into())
}

fn described(code: Code) -> &'static str {
    match code {
        Code::BadRequest => "The request is malformed",
        Code::Invalid => "The request is understood but cannot be used; `errors` says why",
        Code::NotFound => "There is no such thing",
        Code::Unauthorized => "An API key is needed, or the one given is not valid",
        Code::Forbidden => "The role of the key does not reach",
        Code::Conflict => "The state of the thing does not allow it",
        Code::TooLarge => "The body is larger than the limit",
        Code::UnsupportedMediaType => "The body is not JSON",
        Code::Busy => "Too much of this goes on already; ask again later",
        Code::StorageFull => "The disk is full; what had been kept before is kept",
        Code::Unavailable => "Something that the server needs is not there now",
        Code::Timeout => "The body came too slowly",
        Code::MethodNotAllowed => "The path does not know the method",
        Code::Damaged | Code::Internal => {
            "The server failed: a stored file is damaged, or its log says why under the request's id"
        }
    }
}
