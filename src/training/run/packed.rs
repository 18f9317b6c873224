//! A file that a run publishes.

use bytes::Bytes;

/// A file to be published.
#[derive(Debug, Clone)]
pub struct Packed {
    /// File name.
    pub name: &'static str,
    /// Media type.
    pub media_type: &'static str,
    /// Content.
    pub bytes: Bytes,
}
