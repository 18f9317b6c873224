//! The elements that are needed of a data set, written anew: explicit VR little endian, each under a
//! representation that its tag may have, so that no parser meets anything that a stranger wrote.

use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry, VirtualVr};
use dicom_core::{Tag, VR};
use dicom_dictionary_std::{StandardDataDictionary, tags};

use super::kept::is_read;

/// The role of an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Nobody needs it.
    Dropped,
    /// Its items are read.
    Sequence,
    /// Its value is read under this representation.
    Value(VR),
}

impl Role {
    pub(super) fn is_sequence(self) -> bool {
        self == Self::Sequence
    }
}

/// The role of an element that declares a representation, or none that is known. The dictionary
/// decides: a standard element may be sent as UN (PS3.5 6.2.2), and any writer may be wrong. Only
/// between representations of one kind is the writer believed, as the bytes show.
pub(super) fn role(tag: Tag, declared: Option<VR>) -> Role {
    if !is_read(tag) {
        return Role::Dropped;
    }
    let Some(entry) = StandardDataDictionary.by_tag(tag) else { return Role::Dropped };
    let usual = entry.vr().relaxed();
    let declared = declared.filter(|vr| *vr != VR::UN);
    match (usual, declared) {
        (VR::SQ, None | Some(VR::SQ)) => Role::Sequence,
        (VR::SQ, Some(_)) | (_, Some(VR::SQ)) => Role::Dropped,
        (_, None) => Role::Value(usual),
        (_, Some(declared)) if declared == usual => Role::Value(usual),
        (_, Some(declared)) => {
            let is_table = entry.vr() == VirtualVr::Lt;
            let alike = Kind::of(declared) == Kind::of(usual)
                || is_table && Kind::of(declared) == Kind::Number;
            Role::Value(if alike { declared } else { usual })
        }
    }
}

/// Whether the length of this representation takes four bytes (PS3.5 7.1.2).
pub(super) fn has_long_length(vr: VR) -> bool {
    holds_bytes(vr) || matches!(vr, VR::SQ | VR::SV | VR::UC | VR::UN | VR::UR | VR::UT | VR::UV)
}

/// Whether values of this representation are runs of bytes or words.
pub(super) fn holds_bytes(vr: VR) -> bool {
    Kind::of(vr) == Kind::Bytes
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Number,
    Text,
    Bytes,
    Other,
}

impl Kind {
    fn of(vr: VR) -> Self {
        match vr {
            VR::DS
            | VR::FD
            | VR::FL
            | VR::IS
            | VR::SL
            | VR::SS
            | VR::SV
            | VR::UL
            | VR::US
            | VR::UV => Self::Number,
            VR::AE
            | VR::AS
            | VR::CS
            | VR::DA
            | VR::DT
            | VR::LO
            | VR::LT
            | VR::PN
            | VR::SH
            | VR::ST
            | VR::TM
            | VR::UC
            | VR::UI
            | VR::UR
            | VR::UT => Self::Text,
            VR::OB | VR::OD | VR::OF | VR::OL | VR::OV | VR::OW => Self::Bytes,
            VR::AT | VR::SQ | VR::UN => Self::Other,
        }
    }
}

/// Bytes that are swapped together in big endian data.
fn unit(vr: VR) -> usize {
    match vr {
        VR::AT | VR::OW | VR::SS | VR::US => 2,
        VR::FL | VR::OF | VR::OL | VR::SL | VR::UL => 4,
        VR::FD | VR::OD | VR::OV | VR::SV | VR::UV => 8,
        VR::AE
        | VR::AS
        | VR::CS
        | VR::DA
        | VR::DS
        | VR::DT
        | VR::IS
        | VR::LO
        | VR::LT
        | VR::OB
        | VR::PN
        | VR::SH
        | VR::SQ
        | VR::ST
        | VR::TM
        | VR::UC
        | VR::UI
        | VR::UN
        | VR::UR
        | VR::UT => 1,
    }
}

/// A data set that is being written.
#[derive(Default)]
pub(super) struct Canon {
    bytes: Vec<u8>,
    /// Texts are Latin alphabet No. 5, which the parser does not know: they are written as UTF-8.
    is_turkish: bool,
}

impl Canon {
    /// Writes a value. One that is too long for its representation is left out.
    pub(super) fn value(&mut self, tag: Tag, vr: VR, bytes: &[u8], big: bool) {
        let unit = unit(vr);
        let value: Vec<u8> = if tag == tags::SPECIFIC_CHARACTER_SET {
            // The parser goes by the first one, and logs what it does not know.
            let Some(name) = first_character_set(bytes) else { return };
            self.is_turkish = name.ends_with(" 148") || name.ends_with("_148");
            if self.is_turkish { b"ISO_IR 192".to_vec() } else { name.as_bytes().to_vec() }
        } else if self.is_turkish && Kind::of(vr) == Kind::Text {
            bytes.iter().map(|byte| latin_5(*byte)).collect::<String>().into_bytes()
        } else if big && unit > 1 {
            bytes.chunks_exact(unit).flat_map(|unit| unit.iter().rev().copied()).collect()
        } else {
            bytes.get(..bytes.len() / unit * unit).unwrap_or_default().to_vec()
        };
        let padding =
            if Kind::of(vr) == Kind::Text || matches!(vr, VR::DS | VR::IS) { b' ' } else { 0 };
        element(&mut self.bytes, tag, vr, &value, padding);
    }

    pub(super) fn open_sequence(&mut self, tag: Tag) {
        put_tag(&mut self.bytes, tag);
        self.bytes.extend(b"SQ\0\0\xFF\xFF\xFF\xFF");
    }

    pub(super) fn open_item(&mut self) {
        self.bytes.extend(b"\xFE\xFF\x00\xE0\xFF\xFF\xFF\xFF");
    }

    pub(super) fn close_item(&mut self) {
        self.bytes.extend(b"\xFE\xFF\x0D\xE0\0\0\0\0");
    }

    pub(super) fn close_sequence(&mut self) {
        self.bytes.extend(b"\xFE\xFF\xDD\xE0\0\0\0\0");
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Appends an element, padded to an even length.
pub(super) fn element(out: &mut Vec<u8>, tag: Tag, vr: VR, value: &[u8], padding: u8) {
    let padded = value.len().next_multiple_of(2);
    if has_long_length(vr) {
        let Ok(length) = u32::try_from(padded) else { return };
        put_tag(out, tag);
        out.extend(vr.to_bytes());
        out.extend([0, 0]);
        out.extend(length.to_le_bytes());
    } else {
        let Ok(length) = u16::try_from(padded) else { return };
        put_tag(out, tag);
        out.extend(vr.to_bytes());
        out.extend(length.to_le_bytes());
    }
    out.extend_from_slice(value);
    if padded > value.len() {
        out.push(padding);
    }
}

fn put_tag(out: &mut Vec<u8>, Tag(group, number): Tag) {
    out.extend(group.to_le_bytes());
    out.extend(number.to_le_bytes());
}

/// A whole file of these elements: preamble, meta information (PS3.10 7.1) and data set.
pub(super) fn file(transfer_syntax: &str, class: &str, instance: &str, elements: &[u8]) -> Vec<u8> {
    /// The program that wrote the file (PS3.10 7.1): a UID made of a UUID (PS3.5 B.2).
    const IMPLEMENTATION: &str = "2.25.152263480563012718311126871361237401611";
    let mut meta = Vec::new();
    element(&mut meta, Tag(2, 0x0001), VR::OB, &[0, 1], 0);
    element(&mut meta, tags::MEDIA_STORAGE_SOP_CLASS_UID, VR::UI, class.as_bytes(), 0);
    element(&mut meta, tags::MEDIA_STORAGE_SOP_INSTANCE_UID, VR::UI, instance.as_bytes(), 0);
    element(&mut meta, tags::TRANSFER_SYNTAX_UID, VR::UI, transfer_syntax.as_bytes(), 0);
    element(&mut meta, tags::IMPLEMENTATION_CLASS_UID, VR::UI, IMPLEMENTATION.as_bytes(), 0);
    let mut file = vec![0; 128];
    file.extend(b"DICM");
    element(&mut file, Tag(2, 0), VR::UL, &(meta.len() as u32).to_le_bytes(), 0);
    file.extend(meta);
    file.extend_from_slice(elements);
    file
}

/// The first character set of the value, if it is one that the standard defines (PS3.3 C.12.1.1.2).
fn first_character_set(value: &[u8]) -> Option<&str> {
    const NUMBERS: &[&str] = &[
        "6", "13", "87", "100", "101", "109", "110", "126", "127", "138", "144", "148", "149",
        "166", "192",
    ];
    let first = value.split(|byte| *byte == b'\\').next()?;
    let name = std::str::from_utf8(first).ok()?.trim_matches(['\0', ' ']);
    let number =
        ["ISO_IR ", "ISO_IR_", "ISO 2022 IR "].iter().find_map(|start| name.strip_prefix(start));
    let is_known = matches!(name, "GB18030" | "GBK" | "GB2312")
        || number.is_some_and(|number| NUMBERS.contains(&number));
    is_known.then_some(name)
}

/// A character of Latin alphabet No. 5 (ISO 8859-9): No. 1 with six letters of Turkish.
fn latin_5(byte: u8) -> char {
    match byte {
        0xD0 => 'Ğ',
        0xDD => 'İ',
        0xDE => 'Ş',
        0xF0 => 'ğ',
        0xFD => 'ı',
        0xFE => 'ş',
        other => char::from(other),
    }
}

#[cfg(test)]
mod tests {
    use dicom_core::VR;
    use dicom_dictionary_std::tags;

    use super::{Canon, Role, first_character_set, role};

    #[test]
    fn the_dictionary_decides_how_a_value_is_read() {
        assert_eq!(role(tags::WINDOW_CENTER, Some(VR::UN)), Role::Value(VR::DS));
        assert_eq!(role(tags::WINDOW_CENTER, None), Role::Value(VR::DS));
        // A number under another kind of number is read as it is written; a name is not.
        assert_eq!(role(tags::WINDOW_CENTER, Some(VR::FD)), Role::Value(VR::FD));
        assert_eq!(role(tags::WINDOW_CENTER, Some(VR::PN)), Role::Value(VR::DS));
        assert_eq!(role(tags::PIXEL_SPACING, Some(VR::OB)), Role::Value(VR::DS));
        assert_eq!(role(tags::VOILUT_SEQUENCE, Some(VR::UN)), Role::Sequence);
        assert_eq!(role(tags::VOILUT_SEQUENCE, Some(VR::LO)), Role::Dropped);
        assert_eq!(role(tags::PATIENT_COMMENTS, Some(VR::LT)), Role::Dropped);
    }

    #[test]
    fn turkish_names_are_written_as_the_parser_can_read_them() {
        let mut canon = Canon::default();

        canon.value(tags::SPECIFIC_CHARACTER_SET, VR::CS, b"ISO_IR 148", false);
        canon.value(tags::PATIENT_NAME, VR::PN, b"\xDEahin^\xDDbrahim", false);

        let written = String::from_utf8_lossy(&canon.into_bytes()).into_owned();
        assert!(written.contains("ISO_IR 192") && written.contains("Şahin^İbrahim"), "{written:?}");
    }

    #[test]
    fn only_character_sets_of_the_standard_are_passed_on() {
        assert_eq!(first_character_set(b"ISO_IR 100 "), Some("ISO_IR 100"));
        assert_eq!(first_character_set(b"ISO 2022 IR 6\\ISO 2022 IR 87"), Some("ISO 2022 IR 6"));
        assert_eq!(first_character_set(b"ISO_IR DOE^JOHN"), None);
        assert_eq!(first_character_set(b"\\ISO 2022 IR 87"), None);
    }
}
