//! DICOM files with a token in every kind of element, and in the words that their structure is told by.

use dicom_core::value::{DataSetSequence, Value};
use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;

use crate::dicoms::ct;

/// An element of each representation that is told by text.
const TEXTS: &[(Tag, VR)] = &[
    (tags::RETRIEVE_AE_TITLE, VR::AE),
    (tags::PATIENT_AGE, VR::AS),
    (tags::IMAGE_TYPE, VR::CS),
    (tags::PATIENT_SEX, VR::CS),
    (tags::STUDY_DATE, VR::DA),
    (tags::PATIENT_WEIGHT, VR::DS),
    (tags::ACQUISITION_DATE_TIME, VR::DT),
    (tags::INSTANCE_NUMBER, VR::IS),
    (tags::MANUFACTURER, VR::LO),
    (tags::ADDITIONAL_PATIENT_HISTORY, VR::LT),
    (tags::PERFORMING_PHYSICIAN_NAME, VR::PN),
    (tags::PATIENT_TELEPHONE_NUMBERS, VR::SH),
    (tags::DERIVATION_DESCRIPTION, VR::ST),
    (tags::STUDY_TIME, VR::TM),
    (tags::STRAIN_DESCRIPTION, VR::UC),
    (tags::FRAME_OF_REFERENCE_UID, VR::UI),
    (tags::RETRIEVE_URL, VR::UR),
    (tags::TEXT_VALUE, VR::UT),
    // What pixels are read by: text where numbers belong.
    (tags::SLICE_THICKNESS, VR::DS),
    (tags::PIXEL_SPACING, VR::DS),
    (tags::LATERALITY, VR::CS),
    (tags::VIEW_POSITION, VR::CS),
];

/// An element of each representation that is told by bytes.
const BYTES: &[(Tag, VR)] = &[
    (tags::ENCRYPTED_CONTENT, VR::OB),
    (tags::DOUBLE_FLOAT_REAL_WORLD_VALUE_FIRST_VALUE_MAPPED, VR::FD),
    (tags::RECOMMENDED_DISPLAY_FRAME_RATE_IN_FLOAT, VR::FL),
    (tags::FLOAT_PIXEL_PADDING_VALUE, VR::FL),
    (tags::SIMPLE_FRAME_LIST, VR::UL),
    (tags::REFERENCE_PIXEL_X0, VR::SL),
    (tags::VECTOR_GRID_DATA, VR::OF),
    (tags::TRACK_POINT_INDEX_LIST, VR::OL),
    (Tag(0x0011, 0x1001), VR::UN),
    (Tag(0x0011, 0x1002), VR::OW),
    (Tag(0x0011, 0x1003), VR::OD),
    (Tag(0x0011, 0x1004), VR::OV),
    (Tag(0x0011, 0x1005), VR::SV),
    (Tag(0x0011, 0x1006), VR::UV),
    (Tag(0x0011, 0x1007), VR::AT),
];

/// The file `number` of a class, with the token in an element of every representation, in a sequence
/// and in the preamble.
pub(crate) fn everywhere(class: usize, number: u32, token: &str) -> Vec<u8> {
    // As long as two numbers of 64 bits.
    let bytes: Vec<u8> = token.bytes().cycle().take(16).collect();
    let mut file = changed(&ct(class, number, token), |object| {
        for (tag, vr) in TEXTS {
            object.put(DataElement::new(*tag, *vr, PrimitiveValue::from(token)));
        }
        for (tag, vr) in BYTES {
            object.put(DataElement::new(*tag, *vr, PrimitiveValue::U8(bytes.clone().into())));
        }
        let mut item = InMemDicomObject::new_empty();
        item.put(DataElement::new(tags::CODE_MEANING, VR::LO, PrimitiveValue::from(token)));
        let items = Value::Sequence(DataSetSequence::from(vec![item]));
        object.put(DataElement::new(tags::PROCEDURE_CODE_SEQUENCE, VR::SQ, items));
    });
    file[..token.len()].copy_from_slice(token.as_bytes());
    file
}

/// The file `number` of a class, whose patient has a name in UTF-8, wherever a person is named.
pub(crate) fn named(class: usize, number: u32, name: &str) -> Vec<u8> {
    let bytes: Vec<u8> = name.bytes().chain((name.len() % 2 == 1).then_some(b' ')).collect();
    changed(&ct(class, number, "NOBODY"), |object| {
        let set = PrimitiveValue::from("ISO_IR 192");
        object.put(DataElement::new(tags::SPECIFIC_CHARACTER_SET, VR::CS, set));
        for (tag, vr) in [
            (tags::PATIENT_NAME, VR::PN),
            (tags::OTHER_PATIENT_NAMES, VR::PN),
            (tags::PATIENT_COMMENTS, VR::LT),
            (tags::REFERRING_PHYSICIAN_NAME, VR::PN),
        ] {
            let name = PrimitiveValue::U8(bytes.clone().into());
            object.put(DataElement::new(tag, vr, name));
        }
    })
}

/// Files with a token in a word that their structure or their pixels are told by; `digits` is a token
/// for where only numbers may stand. Whether a file is taken or refused does not matter here.
pub(crate) fn in_structure(token: &str, digits: &str) -> Vec<(&'static str, Vec<u8>)> {
    let text = |tag: Tag, vr: VR, text: &str| {
        let element = DataElement::new(tag, vr, PrimitiveValue::from(text));
        changed(&ct(0, 500 + u32::from(tag.element()), token), |object| drop(object.put(element)))
    };
    let word = |tag: Tag| text(tag, VR::CS, token);
    let colour = changed(&ct(0, 501, token), |object| {
        for (tag, number) in [
            (tags::SAMPLES_PER_PIXEL, 3_u16),
            (tags::ROWS, 32),
            (tags::BITS_ALLOCATED, 8),
            (tags::BITS_STORED, 8),
            (tags::HIGH_BIT, 7),
        ] {
            object.put(DataElement::new(tag, VR::US, PrimitiveValue::from(number)));
        }
        let model = PrimitiveValue::from(token);
        object.put(DataElement::new(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, model));
    });
    let whole = ct(0, 502, token);
    let syntax = |by: &str| {
        let padded: Vec<u8> = by.bytes().chain(std::iter::repeat(0)).take(20).collect();
        replaced(&whole, b"1.2.840.10008.1.2.1\0", &padded)
    };
    vec![
        ("character set", word(tags::SPECIFIC_CHARACTER_SET)),
        ("modality", word(tags::MODALITY)),
        ("grey model", word(tags::PHOTOMETRIC_INTERPRETATION)),
        ("burned in", word(tags::BURNED_IN_ANNOTATION)),
        ("colour model", colour),
        ("frames", text(tags::NUMBER_OF_FRAMES, VR::IS, digits)),
        ("rows", text(tags::ROWS, VR::DS, token)),
        ("bits", text(tags::BITS_ALLOCATED, VR::LO, token)),
        ("transfer syntax", syntax(&format!("1.2.276.{digits}.1"))),
        ("no transfer syntax", syntax(token)),
        ("implementation", replaced(&whole, b"DICOM-rs ", token.as_bytes())),
        ("cut", whole[..whole.len() - 3000].to_vec()),
        ("cut in its head", whole[..700].to_vec()),
    ]
}

/// A file with its object changed.
fn changed(file: &[u8], change: impl FnOnce(&mut InMemDicomObject)) -> Vec<u8> {
    let mut object = dicom_object::from_reader(file).expect("a DICOM file");
    change(&mut object);
    let mut bytes = Vec::new();
    object.write_all(&mut bytes).expect("written");
    bytes
}

/// A file with the first occurrence of some bytes changed into others, equally many.
fn replaced(file: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = file.windows(from.len()).position(|window| window == from).expect("it is there");
    let mut bytes = file.to_vec();
    bytes[at..at + from.len()].copy_from_slice(&to[..from.len()]);
    bytes
}
