//! The header of a DICOM element: tag, representation and length, as each encoding writes them.

use dicom_core::{Tag, VR};

use super::canon;
use crate::imaging::error::ImagingError;

/// The length of what ends at a delimiter.
pub(super) const UNDEFINED: u32 = 0xFFFF_FFFF;

/// The encoding of elements (PS3.5 7.1).
#[derive(Debug, Clone, Copy)]
pub(super) struct Encoding {
    pub(super) explicit: bool,
    pub(super) big: bool,
}

impl Encoding {
    /// The encoding of sequences whose representation a writer did not know (PS3.5 6.2.2 note 2).
    pub(super) const OF_UNKNOWN: Self = Self { explicit: false, big: false };

    fn u16(self, bytes: [u8; 2]) -> u16 {
        if self.big { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) }
    }

    fn u32(self, bytes: [u8; 4]) -> u32 {
        if self.big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    }
}

/// The header of an element, item or delimiter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) tag: Tag,
    pub(super) vr: Option<[u8; 2]>,
    pub(super) length: u32,
    /// The place where the value starts.
    pub(super) value: usize,
}

impl Header {
    pub(super) fn read(
        bytes: &[u8],
        at: usize,
        bound: usize,
        encoding: Encoding,
    ) -> Result<Self, ImagingError> {
        let rest = bytes.get(at..bound).unwrap_or_default();
        let cut = || broken("it ends in the middle of an element");
        let [a, b, c, d, e, f, g, h, tail @ ..] = rest else { return Err(cut()) };
        let tag = Tag(encoding.u16([*a, *b]), encoding.u16([*c, *d]));
        // Items and delimiters never have a VR (PS3.5 7.5).
        if !encoding.explicit || tag.group() == 0xFFFE {
            let length = encoding.u32([*e, *f, *g, *h]);
            return Ok(Self { tag, vr: None, length, value: at + 8 });
        }
        let vr = [*e, *f];
        let is_long = match VR::from_binary(vr) {
            Some(vr) => canon::has_long_length(vr),
            // A VR of a later standard has two reserved bytes and a long length (PS3.5 6.2); what
            // has something else there was written by somebody who knows neither.
            None => [*g, *h] == [0, 0],
        };
        if !is_long {
            let length = u32::from(encoding.u16([*g, *h]));
            return Ok(Self { tag, vr: Some(vr), length, value: at + 8 });
        }
        let [i, j, k, l, ..] = tail else { return Err(cut()) };
        let length = encoding.u32([*i, *j, *k, *l]);
        Ok(Self { tag, vr: Some(vr), length, value: at + 12 })
    }

    /// The place where a value of defined length ends; it must not reach beyond what holds it.
    pub(super) fn end(&self, bound: usize) -> Result<usize, ImagingError> {
        let end = self.value.checked_add(self.length as usize).filter(|end| *end <= bound);
        end.ok_or_else(|| {
            let Tag(group, number) = self.tag;
            let (length, left) = (self.length, bound.saturating_sub(self.value));
            let told = if length == UNDEFINED {
                "is of undefined length, which it must not be".to_owned()
            } else {
                format!("declares {length} bytes where {left} are left")
            };
            broken(&format!("element ({group:04X},{number:04X}) {told}"))
        })
    }

    /// Whether it holds items of a sequence, if it holds items, that are encoded as of unknown
    /// representation.
    pub(super) fn is_unknown(&self) -> bool {
        self.vr.is_some_and(|vr| matches!(VR::from_binary(vr), None | Some(VR::UN)))
    }
}

pub(super) fn broken(what: &str) -> ImagingError {
    ImagingError::BrokenDicom(what.to_owned())
}
