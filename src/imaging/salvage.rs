//! What a damaged DICOM file still says of its patient, so that nothing shown repeats it.

use dicom_core::Tag;
use dicom_dictionary_std::tags;

use super::patient::Identifiers;

/// Elements that name the patient or the visit.
const IDENTIFYING: [Tag; 4] =
    [tags::ACCESSION_NUMBER, tags::PATIENT_NAME, tags::PATIENT_ID, tags::PATIENT_BIRTH_DATE];
/// No identifier is longer (PS3.5 6.2, PN has three groups of 64).
const LONGEST: usize = 194;

/// Looks for the identifying elements by their bytes, wherever they stand and in either encoding.
pub(super) fn identifiers(bytes: &[u8]) -> Identifiers {
    let texts: Vec<String> = IDENTIFYING.iter().flat_map(|tag| values(bytes, *tag)).collect();
    Identifiers::new(None, texts)
}

fn values(bytes: &[u8], Tag(group, number): Tag) -> Vec<String> {
    let [g0, g1] = group.to_le_bytes();
    let [n0, n1] = number.to_le_bytes();
    let starts = bytes.windows(8).enumerate().filter(|(_, window)| window[..4] == [g0, g1, n0, n1]);
    starts
        .filter_map(|(at, window)| {
            let explicit = window[4].is_ascii_uppercase() && window[5].is_ascii_uppercase();
            let length = if explicit {
                usize::from(u16::from_le_bytes([window[6], window[7]]))
            } else {
                u32::from_le_bytes([window[4], window[5], window[6], window[7]]) as usize
            };
            let end = at + 8 + length.min(LONGEST);
            let value = &bytes[at + 8..end.min(bytes.len())];
            let text = String::from_utf8_lossy(value);
            let text = text.trim_matches(['\0', ' ']).to_owned();
            (!text.is_empty()).then_some(text)
        })
        .collect()
}
