//! Texts whose character set is switched by escape sequences (ISO 2022, PS3.5 6.1.2.5.3), as names of
//! persons are in East Asia. The toolkit follows the first character set only, and leaves the escape
//! sequences and what stands behind them as they are.

use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};

const ESCAPE: char = '\u{1B}';
/// Sequences that lead back to ASCII and its kin.
const PLAIN: [&str; 3] = ["(B", "(J", "-A"];

/// A text with its escape sequences followed; `None` where it has none.
pub(super) fn unescaped(text: &str) -> Option<String> {
    let (start, rest) = text.split_once(ESCAPE)?;
    let pieces = rest.split(ESCAPE).map(part);
    Some(std::iter::once(start.to_owned()).chain(pieces).collect())
}

/// The text that follows an escape.
fn part(piece: &str) -> String {
    let after = |sequence: &&str| piece.strip_prefix(*sequence);
    if ["$B", "$@"].iter().any(|sequence| piece.starts_with(sequence)) {
        return decoded("ISO 2022 IR 87", &format!("{ESCAPE}{piece}{ESCAPE}(B"));
    }
    for (sequence, set) in [
        ("$)C", "ISO 2022 IR 149"),
        ("$)A", "ISO 2022 IR 58"),
        ("(I", "ISO_IR 13"),
        (")I", "ISO_IR 13"),
    ] {
        if let Some(rest) = after(&sequence) {
            return decoded(set, rest);
        }
    }
    PLAIN.iter().find_map(after).unwrap_or(piece).to_owned()
}

/// Bytes that were read as Latin 1, read in a character set of DICOM: by the toolkit, for which they
/// are put into an object of their own.
fn decoded(set: &str, text: &str) -> String {
    let bytes: Option<Vec<u8>> = text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
    bytes.and_then(|bytes| read_back(set, bytes)).unwrap_or_else(|| text.to_owned())
}

fn read_back(set: &str, mut bytes: Vec<u8>) -> Option<String> {
    // Values have an even length (PS3.5 7.1.1).
    if bytes.len() % 2 == 1 {
        bytes.push(b' ');
    }
    let mut object = InMemDicomObject::new_empty();
    let name = PrimitiveValue::U8(bytes.into());
    object.put(DataElement::new(tags::SPECIFIC_CHARACTER_SET, VR::CS, PrimitiveValue::from(set)));
    object.put(DataElement::new(tags::PATIENT_NAME, VR::PN, name));
    let meta = FileMetaTableBuilder::new()
        .transfer_syntax(uids::EXPLICIT_VR_LITTLE_ENDIAN)
        .media_storage_sop_class_uid(uids::SECONDARY_CAPTURE_IMAGE_STORAGE)
        .media_storage_sop_instance_uid("2.25.1");
    let mut file = Vec::new();
    object.with_meta(meta).ok()?.write_all(&mut file).ok()?;
    let object = dicom_object::from_reader(file.as_slice()).ok()?;
    let name = object.element_opt(tags::PATIENT_NAME).ok()??.to_str().ok()?;
    Some(name.trim_end_matches(['\0', ' ']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::unescaped;

    #[test]
    fn the_examples_of_the_standard_are_read() {
        // PS3.5 H.3.1 and I.2.
        let japanese = "Yamada^Tarou=\u{1B}$B;3ED\u{1B}(B^\u{1B}$BB@O:\u{1B}(B";
        let korean = "Hong^Gildong=\u{1B}$)C\u{FB}\u{F3}^\u{1B}$)C\u{D1}\u{CE}\u{D4}\u{D7}=\
            \u{1B}$)C\u{C8}\u{AB}^\u{1B}$)C\u{B1}\u{E6}\u{B5}\u{BF}";

        assert_eq!(unescaped(japanese).as_deref(), Some("Yamada^Tarou=山田^太郎"));
        assert_eq!(unescaped(korean).as_deref(), Some("Hong^Gildong=洪^吉洞=홍^길동"));
        assert_eq!(unescaped("Müller^Anna"), None);
    }
}
