//! Pixel data as they lie in a file: plain samples, or fragments that are put together to frames.

use std::borrow::Cow;

use crate::domain::Size;
use crate::imaging::dicom::header::Header;
use crate::imaging::dicom::transfer_syntax::{
    DEFLATED, EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE, not_decoded,
};
use crate::imaging::error::ImagingError;

/// The value of the pixel data element.
pub(in crate::imaging::dicom) enum PixelData<'a> {
    /// Plain samples.
    Native {
        /// All frames.
        bytes: &'a [u8],
        /// Whether they were written as 16-bit words.
        words: bool,
        /// Whether the data set is big endian.
        big: bool,
    },
    /// Compressed, or at least wrapped.
    Encapsulated {
        /// The places where frames start among the fragments: little-endian 32-bit numbers, or
        /// nothing.
        offsets: &'a [u8],
        /// The fragments.
        fragments: Vec<&'a [u8]>,
    },
}

/// The coding of pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    /// Plain samples.
    Plain,
    /// PS3.5 Annex G.
    RunLength,
    /// JPEG, lossy or lossless.
    Jpeg,
    /// JPEG 2000 and its high-throughput kind.
    Jpeg2000,
    /// JPEG XL.
    JpegXl,
}

impl Coding {
    /// The coding of a transfer syntax. One that the standard does not know may say anything, and is
    /// not repeated.
    pub(super) fn of(transfer_syntax: &str) -> Result<Self, ImagingError> {
        if [IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG, DEFLATED].contains(&transfer_syntax) {
            return Ok(Self::Plain);
        }
        match transfer_syntax.strip_prefix("1.2.840.10008.1.2.") {
            Some("1.98") => Ok(Self::Plain),
            Some("5") => Ok(Self::RunLength),
            Some("4.50" | "4.51" | "4.57" | "4.70") => Ok(Self::Jpeg),
            Some("4.90" | "4.91" | "4.92" | "4.93" | "4.201" | "4.202" | "4.203") => {
                Ok(Self::Jpeg2000)
            }
            Some("4.110" | "4.111" | "4.112") => Ok(Self::JpegXl),
            _ => Err(not_decoded(transfer_syntax)),
        }
    }

    /// Whether these are the first bytes of a compressed picture.
    fn starts(self, fragment: &[u8]) -> bool {
        match self {
            Self::Plain | Self::RunLength => false,
            Self::Jpeg => fragment.starts_with(&[0xFF, 0xD8, 0xFF]),
            Self::Jpeg2000 => {
                fragment.starts_with(&[0xFF, 0x4F, 0xFF, 0x51])
                    || fragment.starts_with(b"\0\0\0\x0CjP")
            }
            Self::JpegXl => {
                fragment.starts_with(&[0xFF, 0x0A]) || fragment.starts_with(b"\0\0\0\x0CJXL")
            }
        }
    }
}

/// The data of one frame, put together from its fragments (PS3.5 A.4): one each, or by the table of
/// offsets, or from where a picture starts to where the next one does.
pub(super) fn encoded<'a>(
    offsets: &[u8],
    fragments: &[&'a [u8]],
    (coding, frames, frame): (Coding, u32, u32),
) -> Result<Cow<'a, [u8]>, ImagingError> {
    let (count, frame) = (frames as usize, frame as usize);
    if fragments.len() == count
        && let Some(fragment) = fragments.get(frame)
    {
        return Ok(Cow::Borrowed(fragment));
    }
    if count == 1 {
        return Ok(Cow::Owned(fragments.concat()));
    }
    by_offsets(offsets, fragments, count, frame)
        .or_else(|| {
            let starts: Vec<usize> = fragments
                .iter()
                .enumerate()
                .filter(|(_, fragment)| coding.starts(fragment))
                .map(|(at, _)| at)
                .collect();
            let end = starts.get(frame + 1).copied().unwrap_or(fragments.len());
            let start = *starts.get(frame)?;
            (starts.len() == count && starts.first() == Some(&0))
                .then(|| fragments.get(start..end).map(<[&[u8]]>::concat))?
        })
        .map(Cow::Owned)
        .ok_or_else(|| {
            let found = fragments.len();
            ImagingError::PixelData(format!("it has {found} fragments for {frames} frames"))
        })
}

/// A frame by the table, which counts bytes from the first fragment on, headers of items included.
fn by_offsets(offsets: &[u8], fragments: &[&[u8]], count: usize, frame: usize) -> Option<Vec<u8>> {
    const ITEM_HEADER: usize = 8;
    let at = |frame: usize| {
        let four = offsets.get(4 * frame..4 * frame + 4)?;
        Some(u32::from_le_bytes(four.try_into().ok()?) as usize)
    };
    if offsets.len() / 4 != count {
        return None;
    }
    let (start, end) = (at(frame)?, at(frame + 1).unwrap_or(usize::MAX));
    let mut offset = 0;
    let (mut starts_there, mut ends_there) = (false, end == usize::MAX);
    let mut data = Vec::new();
    for fragment in fragments {
        ends_there |= offset == end;
        if offset >= start && offset < end {
            starts_there |= offset == start;
            data.extend_from_slice(fragment);
        }
        offset += fragment.len() + ITEM_HEADER;
    }
    (starts_there && ends_there).then_some(data)
}

/// The plain samples of one frame, little endian and one byte for a sample of a single bit.
pub(super) fn native<'a>(
    (bytes, words, big): (&'a [u8], bool, bool),
    header: &Header,
    frame: u32,
) -> Result<Cow<'a, [u8]>, ImagingError> {
    let (pixels, frame) = (header.pixels(), frame as usize);
    if header.bits_allocated == 1 {
        // PS3.5 8.1.1: bits are packed from the least significant on, across frames.
        let bits = frame * pixels..(frame + 1) * pixels;
        enough(bytes.len(), bits.end.div_ceil(8))?;
        let swap = usize::from(big && words);
        let byte = |at: usize| bytes.get(at ^ swap).copied().unwrap_or_default();
        return Ok(bits.map(|bit| byte(bit / 8) >> (bit % 8) & 1).collect());
    }
    let width = header.bits_allocated as usize / 8;
    let length = header.native_frame_bytes(bytes.len());
    let (start, end) = (frame * length, (frame + 1) * length);
    enough(bytes.len(), end)?;
    let data = bytes.get(start..end).unwrap_or_default();
    Ok(match (big, width) {
        (false, _) => Cow::Borrowed(data),
        // Samples of a byte that were written as words stand the other way round in pairs.
        (true, 1) if words => {
            (start..end).map(|at| bytes.get(at ^ 1).copied().unwrap_or_default()).collect()
        }
        (true, 1) => Cow::Borrowed(data),
        (true, _) => data.chunks_exact(width).flat_map(|one| one.iter().rev().copied()).collect(),
    })
}

pub(super) fn enough(found: usize, needed: usize) -> Result<(), ImagingError> {
    if found >= needed {
        return Ok(());
    }
    let [found, needed] = [found, needed].map(|bytes| Size(bytes as u64));
    let what = format!("it has {found} where {needed} are needed");
    Err(ImagingError::PixelData(what))
}

#[cfg(test)]
mod tests {
    use super::{Coding, encoded};

    #[test]
    fn fragments_are_put_together_to_frames() {
        let parts: [&[u8]; 4] = [b"\xFF\xD8\xFFa", b"bb", b"\xFF\xD8\xFFc", b"dd"];
        let first = b"\xFF\xD8\xFFabb".as_slice();
        let table = [0_u32, 22].map(u32::to_le_bytes).concat();
        let wrong = [0_u32, 23].map(u32::to_le_bytes).concat();

        for offsets in [&table[..], &[], &wrong] {
            let [one, two] = [0, 1].map(|frame| encoded(offsets, &parts, (Coding::Jpeg, 2, frame)));
            assert_eq!(one.expect("a frame"), first);
            assert_eq!(two.expect("a frame"), &b"\xFF\xD8\xFFcdd"[..]);
        }
        assert!(encoded(&[], &parts, (Coding::RunLength, 2, 0)).is_err());
        assert!(encoded(&[], &parts, (Coding::Jpeg, 3, 0)).is_err());
        let alone = encoded(&[], &parts[..2], (Coding::RunLength, 1, 0));
        assert_eq!(alone.expect("a frame"), first);
        assert!(encoded(&[], &[], (Coding::Jpeg, 1, 0)).expect("nothing").is_empty());
    }
}
