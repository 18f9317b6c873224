//! A walk over the structure of a DICOM file before any parser builds objects from it.
//!
//! The parser trusts declared lengths and recurses into sequences; a file of a kilobyte could make
//! it ask for gigabytes or overflow its stack. The walk keeps a stack of its own, compares each
//! length with the bytes that are left and counts (PS3.5 sections 7.1 and 7.5, PS3.10 section 7).

use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};
use dicom_core::{Tag, VR};
use dicom_dictionary_std::StandardDataDictionary;

use super::ImagingError;
use crate::config::Limits;

/// Where the data set starts: 128 bytes of preamble and `DICM`.
pub(super) const META_START: usize = 132;
const UNDEFINED: u32 = 0xFFFF_FFFF;
const ITEM: Tag = Tag(0xFFFE, 0xE000);
const ITEM_END: Tag = Tag(0xFFFE, 0xE00D);
const SEQUENCE_END: Tag = Tag(0xFFFE, 0xE0DD);
const PIXEL_DATA: Tag = Tag(0x7FE0, 0x0010);

/// Implicit VR little endian, the default transfer syntax.
pub const IMPLICIT_LITTLE: &str = "1.2.840.10008.1.2";
/// Explicit VR little endian.
pub const EXPLICIT_LITTLE: &str = "1.2.840.10008.1.2.1";
/// Explicit VR little endian, the data set deflated.
pub const DEFLATED: &str = "1.2.840.10008.1.2.1.99";
/// Explicit VR big endian, retired.
pub const EXPLICIT_BIG: &str = "1.2.840.10008.1.2.2";

/// Where a file's parts lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Transfer syntax of the data set.
    pub transfer_syntax: String,
    /// Where the value of the transfer syntax element lies.
    pub transfer_syntax_value: std::ops::Range<usize>,
    /// Where the data set starts.
    pub data_set: usize,
}

/// Whether the bytes claim to be a DICOM file.
pub fn is_dicom(bytes: &[u8]) -> bool {
    bytes.get(128..META_START) == Some(b"DICM")
}

/// Reads the file meta information, which is always explicit VR little endian.
pub fn layout(bytes: &[u8]) -> Result<Layout, ImagingError> {
    let mut reader = Reader { bytes, at: META_START, end: bytes.len() };
    let encoding = Encoding { explicit: true, big: false };
    let mut syntax = None;
    while let Some(tag) = reader.peek_tag(encoding) {
        if tag.group() != 2 {
            break;
        }
        let element = reader.element(encoding)?;
        if element.length == UNDEFINED {
            return Err(broken("a meta element of undefined length"));
        }
        let value = reader.skip(element)?;
        if tag == Tag(0x0002, 0x0010) {
            syntax = Some(value);
        }
    }
    let range = syntax.ok_or_else(|| broken("its meta information names no transfer syntax"))?;
    let text = String::from_utf8_lossy(&bytes[range.clone()]);
    let transfer_syntax = text.trim_end_matches(['\0', ' ']).to_owned();
    let is_uid = |c: char| c.is_ascii_digit() || c == '.';
    if transfer_syntax.len() > 64 || !transfer_syntax.chars().all(is_uid) {
        return Err(broken("its transfer syntax is not a UID"));
    }
    Ok(Layout { transfer_syntax, transfer_syntax_value: range, data_set: reader.at })
}

/// Walks the data set of a file that is not deflated.
pub fn check(bytes: &[u8], layout: &Layout, limits: &Limits) -> Result<(), ImagingError> {
    let encoding = Encoding {
        explicit: layout.transfer_syntax != IMPLICIT_LITTLE,
        big: layout.transfer_syntax == EXPLICIT_BIG,
    };
    let mut reader = Reader { bytes, at: layout.data_set, end: bytes.len() };
    let mut open = vec![Level { items: false, end: None, encoding }];
    let mut elements = 0;
    loop {
        while open.len() > 1 && open.last().is_some_and(|level| level.end == Some(reader.at)) {
            open.pop();
        }
        let Some(level) = open.last().copied() else { return Ok(()) };
        // Fewer bytes than an element's header at the end are padding.
        if reader.left() < 8 && level.end.is_none() {
            return Ok(());
        }
        elements += 1;
        if elements > limits.dicom_elements {
            let max = limits.dicom_elements;
            let setting = "LVMED_LIMIT_DICOM_ELEMENTS";
            return Err(ImagingError::TooComplex { what: "data elements", max, setting });
        }
        let next = if level.items { reader.item(level)? } else { reader.data_element(level)? };
        match next {
            Next::Skip => {}
            Next::Close => drop(open.pop()),
            Next::Open(inner) => open.push(inner),
        }
        if open.is_empty() {
            return Err(broken("a delimiter without a sequence"));
        }
        // Each sequence takes two levels: its own and its item's.
        if open.len() > 2 * limits.dicom_depth as usize + 1 {
            let max = u64::from(limits.dicom_depth);
            let setting = "LVMED_LIMIT_DICOM_DEPTH";
            return Err(ImagingError::TooComplex { what: "nested sequences", max, setting });
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Encoding {
    explicit: bool,
    big: bool,
}

/// A data set or a sequence that is being walked.
#[derive(Debug, Clone, Copy)]
struct Level {
    /// A sequence holds items; a data set holds elements.
    items: bool,
    /// Where it ends, unless a delimiter ends it.
    end: Option<usize>,
    encoding: Encoding,
}

enum Next {
    Skip,
    Open(Level),
    Close,
}

#[derive(Debug, Clone, Copy)]
struct Element {
    tag: Tag,
    vr: Option<[u8; 2]>,
    length: u32,
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
}

impl Reader<'_> {
    fn left(&self) -> usize {
        self.end - self.at
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], ImagingError> {
        let taken = self.bytes.get(self.at..self.at + N).and_then(|bytes| bytes.try_into().ok());
        let taken = taken.ok_or_else(|| broken("it ends in the middle of an element"))?;
        self.at += N;
        Ok(taken)
    }

    fn u16(&mut self, encoding: Encoding) -> Result<u16, ImagingError> {
        let bytes = self.take()?;
        Ok(if encoding.big { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }

    fn u32(&mut self, encoding: Encoding) -> Result<u32, ImagingError> {
        let bytes = self.take()?;
        Ok(if encoding.big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    fn tag(&mut self, encoding: Encoding) -> Result<Tag, ImagingError> {
        Ok(Tag(self.u16(encoding)?, self.u16(encoding)?))
    }

    fn peek_tag(&mut self, encoding: Encoding) -> Option<Tag> {
        let at = self.at;
        let tag = self.tag(encoding).ok();
        self.at = at;
        tag
    }

    fn element(&mut self, encoding: Encoding) -> Result<Element, ImagingError> {
        let tag = self.tag(encoding)?;
        // Items and delimiters never have a VR (PS3.5 7.5).
        if !encoding.explicit || tag.group() == 0xFFFE {
            return Ok(Element { tag, vr: None, length: self.u32(encoding)? });
        }
        let vr: [u8; 2] = self.take()?;
        let long = matches!(
            &vr,
            b"OB"
                | b"OD"
                | b"OF"
                | b"OL"
                | b"OV"
                | b"OW"
                | b"SQ"
                | b"SV"
                | b"UC"
                | b"UN"
                | b"UR"
                | b"UT"
                | b"UV"
        );
        let length = if long {
            self.take::<2>()?;
            self.u32(encoding)?
        } else {
            u32::from(self.u16(encoding)?)
        };
        Ok(Element { tag, vr: Some(vr), length })
    }

    /// Steps over a value, which must lie within the bytes that are left.
    fn skip(&mut self, element: Element) -> Result<std::ops::Range<usize>, ImagingError> {
        let length = element.length as usize;
        if length > self.left() {
            let Tag(group, number) = element.tag;
            return Err(broken(&format!(
                "element ({group:04X},{number:04X}) declares {length} bytes where {} are left",
                self.left()
            )));
        }
        let start = self.at;
        self.at += length;
        Ok(start..self.at)
    }

    /// Where a value of defined length ends; it must not reach beyond what holds it.
    fn end_of(&self, element: Element, level: Level) -> Result<usize, ImagingError> {
        let end = self.at + element.length as usize;
        if end > level.end.unwrap_or(self.end).min(self.end) {
            let Tag(group, number) = element.tag;
            return Err(broken(&format!(
                "element ({group:04X},{number:04X}) reaches beyond what holds it"
            )));
        }
        Ok(end)
    }

    /// One item or delimiter of a sequence.
    fn item(&mut self, level: Level) -> Result<Next, ImagingError> {
        let element = self.element(level.encoding)?;
        match element.tag {
            SEQUENCE_END => Ok(Next::Close),
            ITEM if element.length == UNDEFINED => {
                Ok(Next::Open(Level { items: false, end: None, encoding: level.encoding }))
            }
            ITEM => {
                let end = Some(self.end_of(element, level)?);
                Ok(Next::Open(Level { items: false, end, encoding: level.encoding }))
            }
            _ => Err(broken("something other than an item in a sequence")),
        }
    }

    /// One element of a data set.
    fn data_element(&mut self, level: Level) -> Result<Next, ImagingError> {
        let element = self.element(level.encoding)?;
        // PS3.5 6.2.2 note 2 has such a value encoded as implicit VR; the parser reads it as explicit,
        // takes bytes of it for lengths, and asks for gigabytes.
        if element.vr == Some(*b"UN") && element.length == UNDEFINED {
            return Err(broken("an element of unknown representation and undefined length"));
        }
        if element.tag == ITEM_END {
            return Ok(Next::Close);
        }
        if element.length == UNDEFINED {
            if element.tag == PIXEL_DATA {
                self.fragments(level.encoding)?;
                return Ok(Next::Skip);
            }
            let encoding = level.encoding;
            return Ok(Next::Open(Level { items: true, end: None, encoding }));
        }
        let is_sequence = match element.vr {
            Some(vr) => vr == *b"SQ",
            None => StandardDataDictionary
                .by_tag(element.tag)
                .is_some_and(|entry| entry.vr().relaxed() == VR::SQ),
        };
        if is_sequence && element.length > 0 {
            let end = Some(self.end_of(element, level)?);
            return Ok(Next::Open(Level { items: true, end, encoding: level.encoding }));
        }
        self.end_of(element, level)?;
        self.skip(element)?;
        Ok(Next::Skip)
    }

    /// The fragments of encapsulated pixel data (PS3.5 A.4).
    fn fragments(&mut self, encoding: Encoding) -> Result<(), ImagingError> {
        loop {
            if self.left() == 0 {
                return Err(broken("its pixel data ends without a delimiter"));
            }
            let element = self.element(encoding)?;
            match element.tag {
                SEQUENCE_END => return Ok(()),
                ITEM => {
                    self.skip(element)?;
                }
                _ => return Err(broken("something other than a fragment in its pixel data")),
            }
        }
    }
}

fn broken(what: &str) -> ImagingError {
    ImagingError::BrokenDicom(what.to_owned())
}
