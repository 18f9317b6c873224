//! De-identification: what is kept of a file is on a list; everything else is gone.
//!
//! A DICOM object keeps what decoding, windowing and scaling need, and no free text. Numbers are
//! written anew as numbers, tables as far as pixels refer to them, pixels without what hides beside
//! them (`stored`). Its UIDs are replaced by ones made of its pixels. Later profiles (PS3.15 Annex E)
//! start from here.

use dicom_core::value::{DataSetSequence, Value};
use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};

use super::attribute::{code, element, items};
use super::guard::DicomFile;
use super::header::Header;
use super::kept::{KEPT_WORDS, Measure, NUMBERS, SEQUENCES};
use super::pixels::stored::{StoredPixels, put_tables};
use crate::domain::Sha256;
use crate::imaging::error::ImagingError;

/// The file without anything that is not on the lists, as a complete file.
pub(in crate::imaging) fn strip_dicom(
    object: &DicomFile<'_>,
    header: &Header,
) -> Result<Vec<u8>, ImagingError> {
    let pixels = StoredPixels::of(object, header)?;
    let mut kept = filtered(object, header);
    for (tag, words) in KEPT_WORDS {
        if let Some(text) = code(object, *tag).filter(|text| words.contains(&text.as_str())) {
            kept.put(DataElement::new(*tag, VR::CS, PrimitiveValue::from(text)));
        }
    }
    pixels.put_header(&mut kept, header);
    put_tables(&mut kept, object, header, &pixels);
    // PS3.3 C.12.1.1 wants an instance UID; one made of the content names equal content equally.
    let uid = content_uid(pixels.element());
    let class = uids::SECONDARY_CAPTURE_IMAGE_STORAGE;
    kept.put(DataElement::new(tags::SOP_CLASS_UID, VR::UI, PrimitiveValue::from(class)));
    kept.put(DataElement::new(tags::SOP_INSTANCE_UID, VR::UI, PrimitiveValue::from(uid.as_str())));
    kept.put(DataElement::new(tags::PATIENT_IDENTITY_REMOVED, VR::CS, PrimitiveValue::from("YES")));
    let failed = || ImagingError::BrokenDicom("what is kept of it cannot be written".to_owned());
    let file = kept
        .with_meta(
            FileMetaTableBuilder::new()
                .transfer_syntax(pixels.transfer_syntax())
                .media_storage_sop_class_uid(class)
                .media_storage_sop_instance_uid(uid),
        )
        .map_err(|_| failed())?;
    let mut bytes = Vec::new();
    file.write_all(&mut bytes).map_err(|_| failed())?;
    Ok(pixels.after(&bytes))
}

/// The numbers of an object or an item that are on the list, and its sequences filtered like it.
fn filtered(object: &InMemDicomObject, header: &Header) -> InMemDicomObject {
    let mut kept = InMemDicomObject::new_empty();
    for (tag, measure, most) in NUMBERS {
        if let Some(number) = numbers(object, *tag, *measure, *most) {
            kept.put(number);
        }
    }
    for tag in SEQUENCES {
        let Some(items) = items(object, *tag) else { continue };
        let filtered: Vec<InMemDicomObject> =
            items.iter().take(header.frames as usize).map(|item| filtered(item, header)).collect();
        kept.put(DataElement::new(*tag, VR::SQ, Value::Sequence(DataSetSequence::from(filtered))));
    }
    kept
}

/// The numbers of an element, spelt anew: whatever was beside them, or instead of them, is gone.
fn numbers(
    object: &InMemDicomObject,
    tag: Tag,
    measure: Measure,
    most: usize,
) -> Option<DataElement<InMemDicomObject>> {
    /// No scanner's spacing or slice is larger, in millimetres.
    const LONGEST: f64 = 10_000.0;
    let element = element(object, tag)?;
    if measure == Measure::Stored {
        let value = element.to_int::<i64>().ok()?;
        let (vr, value) = match (element.vr(), u16::try_from(value), i16::try_from(value)) {
            (VR::SS, _, Ok(value)) => (VR::SS, PrimitiveValue::from(value)),
            (_, Ok(value), _) => (VR::US, PrimitiveValue::from(value)),
            (_, _, Ok(value)) => (VR::SS, PrimitiveValue::from(value)),
            _ => return None,
        };
        return Some(DataElement::new(tag, vr, value));
    }
    let values = element.to_multi_float64().ok()?;
    let is_usable =
        |value: &f64| value.is_finite() && (measure != Measure::Length || value.abs() <= LONGEST);
    let usable = values.iter().take(most).take_while(|value| is_usable(value));
    let spelt: Vec<String> = usable.map(|value| spell(*value)).collect();
    if spelt.is_empty() {
        return None;
    }
    let vr = if tag == tags::PIXEL_ASPECT_RATIO { VR::IS } else { VR::DS };
    Some(DataElement::new(tag, vr, PrimitiveValue::from(spelt.join("\\"))))
}

/// The shortest text that is read as the same number.
fn spell(value: f64) -> String {
    let plain = (1e-5..1e15).contains(&value.abs()) || value == 0.0;
    if plain { format!("{value}") } else { format!("{value:e}") }
}

/// `2.25.` and 128 bits of the digest of the pixels (PS3.5 B.2).
fn content_uid(pixels: &[u8]) -> String {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&Sha256::of(pixels).as_bytes()[..16]);
    format!("2.25.{}", u128::from_be_bytes(bytes))
}
