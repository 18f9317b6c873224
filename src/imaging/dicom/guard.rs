//! Opening untrusted DICOM bytes: inflated under a cap, walked, and worked on where a panic is an
//! error like any other.

use std::borrow::Cow;
use std::cell::Cell;
use std::io::Read;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};

use dicom_object::InMemDicomObject;
use flate2::read::DeflateDecoder;

use super::canon;
use super::pixels::data::PixelData;
use super::transfer_syntax::{DEFLATED, EXPLICIT_LITTLE};
use super::walk::{Walked, meta, walk};
use crate::config::Limits;
use crate::imaging::error::ImagingError;

/// Room for the recursion of codecs and, as deep as the walk lets nothing through, of the parser.
const STACK_BYTES: usize = 64 << 20;

thread_local! {
    /// Whether this thread has the room already.
    static IS_DEEP: Cell<bool> = const { Cell::new(false) };
}

/// The parts that are needed of a DICOM file: its elements, parsed from what the walk wrote, and its
/// pixels, which stay in the file.
pub(in crate::imaging) struct DicomFile<'a> {
    elements: InMemDicomObject,
    /// Transfer syntax of the file.
    pub(super) transfer_syntax: String,
    /// The pixels, where they are kept as integers.
    pub(super) pixels: Option<PixelData<'a>>,
    /// Whether there are pixels that are floating-point numbers.
    pub(super) floats: bool,
}

impl Deref for DicomFile<'_> {
    type Target = InMemDicomObject;

    fn deref(&self) -> &InMemDicomObject {
        &self.elements
    }
}

/// Opens a DICOM file and hands it to `work`, on a thread with a deep stack. A panic of the parser or
/// of a decoder is an error like any other.
pub(in crate::imaging) fn with_object<T: Send>(
    bytes: &[u8],
    limits: &Limits,
    work: impl FnOnce(DicomFile<'_>) -> Result<T, ImagingError> + Send,
) -> Result<T, ImagingError> {
    let open = || {
        let meta = meta(bytes)?;
        let data_set = bytes.get(meta.data_set..).unwrap_or_default();
        let data_set = if meta.transfer_syntax == DEFLATED {
            Cow::Owned(inflate(data_set, limits)?)
        } else {
            Cow::Borrowed(data_set)
        };
        let walked = walk(&data_set, &meta.transfer_syntax, limits)?;
        work(DicomFile {
            elements: parse(&walked)?,
            transfer_syntax: meta.transfer_syntax,
            pixels: walked.pixels,
            floats: walked.floats,
        })
    };
    let caught =
        || catch_unwind(AssertUnwindSafe(open)).unwrap_or(Err(ImagingError::DecoderFailed));
    if IS_DEEP.get() { caught() } else { deep(caught).ok_or(ImagingError::DecoderFailed)? }
}

/// Does `work` on a thread with a deep stack; none when there is no such thread, or it panicked. Whoever
/// opens many files does it all on one: a thread for each costs most of a small file's time.
pub fn deep<T: Send>(work: impl FnOnce() -> T + Send) -> Option<T> {
    let marked = || {
        IS_DEEP.set(true);
        work()
    };
    std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().name("decode".to_owned());
        let thread = builder.stack_size(STACK_BYTES).spawn_scoped(scope, marked).ok()?;
        thread.join().ok()
    })
}

/// The elements that the walk wrote, as an object.
pub(super) fn parse(walked: &Walked<'_>) -> Result<InMemDicomObject, ImagingError> {
    let class = dicom_dictionary_std::uids::SECONDARY_CAPTURE_IMAGE_STORAGE;
    let file = canon::file(EXPLICIT_LITTLE, class, "2.25.1", &walked.elements);
    dicom_object::from_reader(file.as_slice())
        .map(dicom_object::FileDicomObject::into_inner)
        // The parser's messages quote what they stumble over.
        .map_err(|_| ImagingError::BrokenDicom("its elements cannot be read".to_owned()))
}

/// The inflated data set, within the limits of bytes and of their ratio to the packed ones.
fn inflate(packed: &[u8], limits: &Limits) -> Result<Vec<u8>, ImagingError> {
    /// Files of which little is known yet may be packed as well as they like.
    const FREE_BYTES: u64 = 10 << 20;
    let by_ratio = FREE_BYTES + (packed.len() as u64).saturating_mul(limits.archive_ratio);
    let max = limits.decoded_bytes.min(by_ratio);
    let mut inflated = Vec::new();
    DeflateDecoder::new(packed)
        .take(max + 1)
        .read_to_end(&mut inflated)
        .map_err(|_| ImagingError::BrokenDicom("its data set does not inflate".to_owned()))?;
    let found = inflated.len() as u64;
    if found <= max {
        Ok(inflated)
    } else if max == limits.decoded_bytes {
        Err(ImagingError::TooManyBytes { found, max })
    } else {
        let (what, setting) = ("a data set packed by a ratio", "LVMED_LIMIT_ARCHIVE_RATIO");
        Err(ImagingError::TooComplex { what, max: limits.archive_ratio, setting })
    }
}
