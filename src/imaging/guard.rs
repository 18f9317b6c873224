//! Opening untrusted DICOM bytes: walked first, inflated under a cap, parsed on a deep stack.

use std::borrow::Cow;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};

use dicom_object::DefaultDicomObject;
use flate2::read::DeflateDecoder;

use super::ImagingError;
use super::transfer_syntax::{is_standard, not_decoded};
use super::walk::{DEFLATED, EXPLICIT_LITTLE, META_START, check, layout};
use crate::config::Limits;

/// Room for the parser's recursion at the deepest nesting that the walk lets through.
const STACK_BYTES: usize = 64 << 20;

/// Parses a DICOM file and hands the object to `work`, on a thread with a deep stack. A panic of
/// the parser or of a decoder is an error like any other.
pub(super) fn with_object<T: Send>(
    bytes: &[u8],
    limits: &Limits,
    work: impl FnOnce(DefaultDicomObject) -> Result<T, ImagingError> + Send,
) -> Result<T, ImagingError> {
    let found = layout(bytes)?;
    let bytes = &*with_true_meta_length(bytes, found.data_set);
    let inflated;
    let (bytes, found) = if found.transfer_syntax == DEFLATED {
        inflated = inflate(bytes, &found, limits)?;
        (inflated.as_slice(), layout(&inflated)?)
    } else {
        (bytes, found)
    };
    check(bytes, &found, limits)?;
    let parse = || {
        // The parser's messages quote what they stumble over.
        let object = dicom_object::from_reader(bytes).map_err(|_| {
            if is_standard(&found.transfer_syntax) {
                ImagingError::BrokenDicom("its elements cannot be read".to_owned())
            } else {
                not_decoded(&found.transfer_syntax)
            }
        })?;
        work(object)
    };
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("decode".to_owned())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, || {
                catch_unwind(AssertUnwindSafe(parse)).unwrap_or(Err(ImagingError::DecoderFailed))
            })
            .map_err(|_| ImagingError::DecoderFailed)?
            .join()
            .unwrap_or(Err(ImagingError::DecoderFailed))
    })
}

/// The file with the length of its meta information as the walk found it. The parser believes that
/// length: a wrong one would have it read from elsewhere than where the walk has checked.
fn with_true_meta_length(bytes: &[u8], data_set: usize) -> Cow<'_, [u8]> {
    /// (0002,0000), UL, four bytes (PS3.10 7.1): where its value lies.
    const HEADER: &[u8] = &[2, 0, 0, 0, b'U', b'L', 4, 0];
    const VALUE: std::ops::Range<usize> = META_START + 8..META_START + 12;
    let is_told = bytes.get(META_START..VALUE.start) == Some(HEADER);
    let found = u32::try_from(data_set.saturating_sub(VALUE.end)).unwrap_or(u32::MAX);
    if !is_told || bytes.get(VALUE) == Some(found.to_le_bytes().as_slice()) {
        return Cow::Borrowed(bytes);
    }
    let mut mended = bytes.to_vec();
    mended[VALUE].copy_from_slice(&found.to_le_bytes());
    Cow::Owned(mended)
}

/// The same file with its data set inflated and its transfer syntax named so.
fn inflate(
    bytes: &[u8],
    layout: &super::walk::Layout,
    limits: &Limits,
) -> Result<Vec<u8>, ImagingError> {
    let max = limits.decoded_bytes;
    let mut file = bytes[..layout.data_set].to_vec();
    // Both names have room in the element: the shorter one is padded with NUL (PS3.5 9.1).
    let value = &mut file[layout.transfer_syntax_value.clone()];
    value.fill(0);
    value[..EXPLICIT_LITTLE.len()].copy_from_slice(EXPLICIT_LITTLE.as_bytes());
    let before = file.len() as u64;
    DeflateDecoder::new(&bytes[layout.data_set..])
        .take(max + 1)
        .read_to_end(&mut file)
        .map_err(|_| ImagingError::BrokenDicom("its data set does not inflate".to_owned()))?;
    let found = file.len() as u64 - before;
    if found > max { Err(ImagingError::TooManyBytes { found, max }) } else { Ok(file) }
}
