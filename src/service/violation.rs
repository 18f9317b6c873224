//! One thing that is wrong with what was asked, and where it stands.

use serde::Serialize;

use crate::nn::trace::without_trace;

/// One thing that is wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Violation {
    /// Where: a JSON pointer into the body, or the name of a query parameter or header.
    pub pointer: String,
    /// What is wrong, for people to read.
    pub detail: String,
}

impl Violation {
    /// A violation at `pointer`; whatever a library puts behind its errors, no backtrace is told.
    pub fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        let mut detail = detail.into();
        let end = without_trace(&detail).len();
        detail.truncate(end);
        Self { pointer: pointer.into(), detail }
    }
}

/// All of them in one sentence.
pub(super) fn sentence(violations: &[Violation]) -> String {
    violations.iter().map(|violation| violation.detail.as_str()).collect::<Vec<_>>().join("; ")
}
