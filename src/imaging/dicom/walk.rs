//! A walk over the structure of a DICOM file: the only reading of it that there is.
//!
//! A toolkit's parser trusts declared lengths and recurses into sequences, and two readers of one
//! file may disagree about where an element ends. So the parser gets nothing of the file itself: the
//! walk finds the elements that are needed, checks each length against what holds it (PS3.5 sections
//! 7.1 and 7.5, PS3.10 section 7) and writes them anew (`canon`). Pixels stay where they are.

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;

use super::canon::{self, Canon};
use super::element::{Encoding, Header, UNDEFINED, broken};
use super::pixels::data::PixelData;
use super::transfer_syntax::{EXPLICIT_BIG, IMPLICIT_LITTLE};
use crate::config::Limits;
use crate::imaging::error::ImagingError;

/// The place where the meta information starts: 128 bytes of preamble and `DICM`.
const META_START: usize = 132;
const ITEM: Tag = Tag(0xFFFE, 0xE000);
const ITEM_END: Tag = Tag(0xFFFE, 0xE00D);
const SEQUENCE_END: Tag = Tag(0xFFFE, 0xE0DD);

/// Whether the bytes claim to be a DICOM file.
pub(in crate::imaging) fn is_dicom(bytes: &[u8]) -> bool {
    bytes.get(128..META_START) == Some(b"DICM")
}

/// The meta information of a file.
pub(super) struct Meta {
    /// Transfer syntax of the data set.
    pub(super) transfer_syntax: String,
    /// The place where the data set starts.
    pub(super) data_set: usize,
}

/// The elements that a data set holds of what is needed.
pub(super) struct Walked<'a> {
    /// The elements that are needed, as explicit VR little endian.
    pub(super) elements: Vec<u8>,
    /// The pixels, where they are kept as integers.
    pub(super) pixels: Option<PixelData<'a>>,
    /// Whether there are pixels that are floating-point numbers.
    pub(super) floats: bool,
    /// Elements and items that were met.
    #[cfg(test)]
    pub(super) met: u64,
}

/// Reads the file meta information, which is always explicit VR little endian. Its length, and what
/// else it says, do not matter: it ends where the group does.
pub(super) fn meta(bytes: &[u8]) -> Result<Meta, ImagingError> {
    let encoding = Encoding { explicit: true, big: false };
    let (mut at, mut syntax) = (META_START, None);
    while bytes.get(at..at + 2) == Some(&[2, 0]) {
        let header = Header::read(bytes, at, bytes.len(), encoding)?;
        let end = header.end(bytes.len())?;
        if header.tag == tags::TRANSFER_SYNTAX_UID {
            syntax = bytes.get(header.value..end);
        }
        at = end;
    }
    let syntax = syntax.ok_or_else(|| broken("its meta information names no transfer syntax"))?;
    let text = String::from_utf8_lossy(syntax);
    let transfer_syntax = text.trim_end_matches(['\0', ' ']).to_owned();
    let is_uid = |c: char| c.is_ascii_digit() || c == '.';
    if transfer_syntax.len() > 64 || !transfer_syntax.chars().all(is_uid) {
        return Err(broken("its transfer syntax is not a UID"));
    }
    Ok(Meta { transfer_syntax, data_set: at })
}

/// Walks a data set that is not, or no longer, deflated.
pub(super) fn walk<'a>(
    data_set: &'a [u8],
    transfer_syntax: &str,
    limits: &Limits,
) -> Result<Walked<'a>, ImagingError> {
    // Writers that mistake implicit for explicit, or the other way round, show it in the first
    // element: two capital letters are no length that a first element has.
    let letters = data_set.get(4..6).map(|vr| vr.iter().all(u8::is_ascii_uppercase));
    let encoding = Encoding {
        explicit: letters.unwrap_or(transfer_syntax != IMPLICIT_LITTLE),
        big: transfer_syntax == EXPLICIT_BIG && letters == Some(true),
    };
    let mut walk = Walk {
        bytes: data_set,
        limits,
        met: 0,
        canon: Canon::default(),
        pixels: None,
        floats: false,
    };
    walk.data_set(0, Extent::Until(data_set.len()), Place { encoding, depth: 0, kept: true })?;
    Ok(Walked {
        elements: walk.canon.into_bytes(),
        pixels: walk.pixels,
        floats: walk.floats,
        #[cfg(test)]
        met: walk.met,
    })
}

/// The place where a data set or a sequence ends: at a byte, or at a delimiter that comes before one.
#[derive(Debug, Clone, Copy)]
enum Extent {
    Until(usize),
    Delimited(usize),
}

impl Extent {
    fn bound(self) -> usize {
        match self {
            Self::Until(end) | Self::Delimited(end) => end,
        }
    }

    /// Whether it ends here. One that lacks its delimiter is broken.
    fn ends_at(self, at: usize) -> Result<bool, ImagingError> {
        match self {
            Self::Until(end) => Ok(at >= end),
            Self::Delimited(end) if at >= end => {
                Err(broken("it ends before the delimiter of a sequence or item"))
            }
            Self::Delimited(_) => Ok(false),
        }
    }
}

/// The place where a data set stands.
#[derive(Debug, Clone, Copy)]
struct Place {
    encoding: Encoding,
    /// Sequences around it.
    depth: u32,
    /// Whether what is needed of it is written down.
    kept: bool,
}

struct Walk<'a, 'b> {
    bytes: &'a [u8],
    limits: &'b Limits,
    met: u64,
    canon: Canon,
    pixels: Option<PixelData<'a>>,
    floats: bool,
}

impl Walk<'_, '_> {
    fn count(&mut self) -> Result<(), ImagingError> {
        self.met += 1;
        let max = self.limits.dicom_elements;
        let setting = "LVMED_LIMIT_DICOM_ELEMENTS";
        if self.met > max {
            return Err(ImagingError::TooComplex { what: "data elements", max, setting });
        }
        Ok(())
    }

    /// Walks a data set, or an item of a sequence, and says where it ended.
    fn data_set(
        &mut self,
        mut at: usize,
        extent: Extent,
        place: Place,
    ) -> Result<usize, ImagingError> {
        let bound = extent.bound();
        loop {
            if extent.ends_at(at)? {
                return Ok(at);
            }
            // What is too short for an element, or all zeros, at the end of a file is padding.
            let is_zero = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
            let rest = self.bytes.get(at..bound).unwrap_or_default();
            if place.depth == 0 && (rest.len() < 8 || rest.starts_with(&[0; 8]) && is_zero(rest)) {
                return Ok(bound);
            }
            self.count()?;
            let header = Header::read(self.bytes, at, bound, place.encoding)?;
            if header.tag == ITEM_END {
                return match extent {
                    Extent::Delimited(_) => Ok(header.value),
                    Extent::Until(_) => Err(broken("a delimiter without a sequence")),
                };
            }
            at = self.element(header, bound, place)?;
        }
    }

    /// One element of a data set; where it ends.
    fn element(
        &mut self,
        header: Header,
        bound: usize,
        place: Place,
    ) -> Result<usize, ImagingError> {
        let Header { tag, value, .. } = header;
        if tag.group() == 0xFFFE {
            return Err(broken("an item or a delimiter outside of a sequence"));
        }
        let top = place.depth == 0;
        self.floats |= top && matches!(tag, tags::FLOAT_PIXEL_DATA | tags::DOUBLE_FLOAT_PIXEL_DATA);
        let declared = header.vr.and_then(VR::from_binary);
        let encoding = if header.is_unknown() { Encoding::OF_UNKNOWN } else { place.encoding };
        let role = if place.kept { canon::role(tag, declared) } else { canon::Role::Dropped };
        if header.length == UNDEFINED {
            if top && tag == tags::PIXEL_DATA {
                return self.fragments(value, bound, place.encoding);
            }
            let inner = Place { encoding, depth: place.depth + 1, kept: role.is_sequence() };
            return self.sequence(header, Extent::Delimited(bound), inner);
        }
        let end = header.end(bound)?;
        match role {
            _ if tag == tags::PIXEL_DATA => {
                if top {
                    let bytes = self.bytes.get(value..end).unwrap_or_default();
                    let words = declared == Some(VR::OW);
                    self.pixels = Some(PixelData::Native { bytes, words, big: place.encoding.big });
                }
            }
            canon::Role::Dropped => {}
            canon::Role::Sequence => {
                let inner = Place { encoding, depth: place.depth + 1, kept: true };
                return self.sequence(header, Extent::Until(end), inner);
            }
            canon::Role::Value(vr) => {
                let bytes = self.bytes.get(value..end).unwrap_or_default();
                // Values of unknown representation are little endian whatever surrounds them.
                self.canon.value(tag, vr, bytes, encoding.big);
            }
        }
        Ok(end)
    }

    /// The items of a sequence, or the fragments of anything else of undefined length; where it ends.
    fn sequence(
        &mut self,
        of: Header,
        extent: Extent,
        place: Place,
    ) -> Result<usize, ImagingError> {
        if place.depth > self.limits.dicom_depth {
            let max = u64::from(self.limits.dicom_depth);
            let setting = "LVMED_LIMIT_DICOM_DEPTH";
            return Err(ImagingError::TooComplex { what: "nested sequences", max, setting });
        }
        let holds_bytes = of.tag == tags::PIXEL_DATA
            || of.vr.and_then(VR::from_binary).is_some_and(canon::holds_bytes);
        let bound = extent.bound();
        let mut at = of.value;
        if place.kept {
            self.canon.open_sequence(of.tag);
        }
        while !extent.ends_at(at)? {
            self.count()?;
            let item = Header::read(self.bytes, at, bound, place.encoding)?;
            at = match item.tag {
                SEQUENCE_END => {
                    let is_last = matches!(extent, Extent::Delimited(_)) || item.value == bound;
                    if !is_last {
                        return Err(broken("a delimiter in the middle of a sequence"));
                    }
                    at = item.value;
                    break;
                }
                ITEM if holds_bytes => item.end(bound)?,
                ITEM => {
                    let inside = match item.length {
                        UNDEFINED => Extent::Delimited(bound),
                        _ => Extent::Until(item.end(bound)?),
                    };
                    if place.kept {
                        self.canon.open_item();
                    }
                    let end = self.data_set(item.value, inside, place)?;
                    if place.kept {
                        self.canon.close_item();
                    }
                    end
                }
                _ => return Err(broken("something other than an item in a sequence")),
            };
        }
        if place.kept {
            self.canon.close_sequence();
        }
        Ok(at)
    }

    /// The fragments of encapsulated pixel data (PS3.5 A.4): a table of offsets, then frames.
    fn fragments(
        &mut self,
        mut at: usize,
        bound: usize,
        encoding: Encoding,
    ) -> Result<usize, ImagingError> {
        let (mut offsets, mut fragments) = (None, Vec::new());
        loop {
            if at >= bound {
                return Err(broken("its pixel data ends without a delimiter"));
            }
            self.count()?;
            let item = Header::read(self.bytes, at, bound, encoding)?;
            match item.tag {
                SEQUENCE_END => {
                    let offsets = offsets.unwrap_or_default();
                    self.pixels = Some(PixelData::Encapsulated { offsets, fragments });
                    return Ok(item.value);
                }
                ITEM => {
                    at = item.end(bound)?;
                    let bytes = self.bytes.get(item.value..at).unwrap_or_default();
                    if offsets.is_none() {
                        offsets = Some(bytes);
                    } else {
                        fragments.push(bytes);
                    }
                }
                _ => return Err(broken("something other than a fragment in its pixel data")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use dicom_object::InMemDicomObject;
    use proptest::prelude::*;

    use super::{EXPLICIT_BIG, IMPLICIT_LITTLE, walk};
    use crate::config::Limits;
    use crate::imaging::dicom::guard::parse;
    use crate::imaging::dicom::transfer_syntax::EXPLICIT_LITTLE;

    /// Elements, items included, and how deep they are nested.
    fn count(object: &InMemDicomObject) -> (u64, u32) {
        object.iter().fold((0, 0), |(elements, depth), element| {
            let items = element.items().unwrap_or_default().iter().map(count);
            let (inner, deepest) = items.fold((0, 0), |(sum, deepest), (elements, depth)| {
                (sum + elements + 1, deepest.max(depth))
            });
            let nested = if element.items().is_some() { deepest + 1 } else { 0 };
            (elements + 1 + inner, depth.max(nested))
        })
    }

    /// Headers of elements that are read, of items and delimiters, and bytes of any kind.
    fn piece() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            Just(b"\x28\0\x10\x30SQ\0\0\xFF\xFF\xFF\xFF".to_vec()),
            Just(b"\x28\0\x10\x30UN\0\0\xFF\xFF\xFF\xFF".to_vec()),
            Just(b"\x28\0\x10\x30\xFF\xFF\xFF\xFF".to_vec()),
            Just(b"\xFE\xFF\x00\xE0\xFF\xFF\xFF\xFF".to_vec()),
            Just(b"\xFE\xFF\x00\xE0\x0C\0\0\0".to_vec()),
            Just(b"\xFE\xFF\x0D\xE0\0\0\0\0".to_vec()),
            Just(b"\xFE\xFF\xDD\xE0\0\0\0\0".to_vec()),
            Just(b"\x28\0\x02\x30US\x06\0\0\0\0\0\0\0".to_vec()),
            Just(b"\x28\0\x50\x10DS\x02\x0040".to_vec()),
            prop::collection::vec(any::<u8>(), 0..6),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn the_parser_meets_no_more_than_the_walk_has_counted(
            pieces in prop::collection::vec(piece(), 0..16),
            syntax in prop::sample::select(vec![EXPLICIT_LITTLE, IMPLICIT_LITTLE, EXPLICIT_BIG]),
        ) {
            let limits = Limits { dicom_depth: 3, ..Limits::default() };
            let data_set = pieces.concat();

            if let Ok(walked) = walk(&data_set, syntax, &limits) {
                let (elements, depth) = count(&parse(&walked).expect("what was written is parsed"));
                prop_assert!(elements <= walked.met);
                prop_assert!(depth <= limits.dicom_depth);
                prop_assert!(walked.elements.len() <= 4 * data_set.len());
            }
        }
    }
}
