//! Transfer syntaxes: the plain ones, and those that are not decoded here in the words of people. A file
//! may name any text as its own: none is ever repeated.

use crate::imaging::error::ImagingError;

/// Explicit VR little endian.
pub(super) const EXPLICIT_LITTLE: &str = "1.2.840.10008.1.2.1";
/// Implicit VR little endian, the default transfer syntax.
pub(super) const IMPLICIT_LITTLE: &str = "1.2.840.10008.1.2";
/// Explicit VR little endian, the data set deflated.
pub(super) const DEFLATED: &str = "1.2.840.10008.1.2.1.99";
/// Explicit VR big endian, retired.
pub(super) const EXPLICIT_BIG: &str = "1.2.840.10008.1.2.2";

/// Says of a file's transfer syntax that it is not decoded here.
pub(super) fn not_decoded(uid: &str) -> ImagingError {
    ImagingError::TransferSyntax(compression(uid))
}

/// The name that people give the compression of a transfer syntax (PS3.5 section 10, PS3.6 table
/// One that is not listed is not quoted: anything may stand there.
fn compression(syntax: &str) -> &'static str {
    const JPEG: &str = "1.2.840.10008.1.2.4.";
    let number = syntax.strip_prefix(JPEG).and_then(|rest| rest.parse::<u32>().ok());
    match number {
        Some(50..=66 | 70) => "as JPEG of a rare kind",
        Some(80 | 81) => "as JPEG-LS",
        Some(90..=93) => "as JPEG 2000",
        Some(94 | 95 | 204 | 205) => "as JPIP, which leaves its pixels on another server",
        Some(100..=106) => "as MPEG video",
        Some(107 | 108) => "as HEVC video",
        Some(110..=112) => "as JPEG XL",
        Some(201..=203) => "as High-Throughput JPEG 2000",
        Some(_) | None => "in a way that is not known",
    }
}

#[cfg(test)]
mod tests {
    use super::not_decoded;

    #[test]
    fn only_what_the_standard_defines_is_named() {
        let known = not_decoded("1.2.840.10008.1.2.4.100").to_string();
        let unknown = not_decoded("1.2.276.4711").to_string();

        assert!(known.contains("as MPEG video"), "{known}");
        assert!(unknown.contains("in a way that is not known") && !unknown.contains("4711"));
    }
}
