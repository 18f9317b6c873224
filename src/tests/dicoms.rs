//! Generated DICOM files, with every identifying element filled in.

use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};

/// The text elements that name a person, a place or a visit; each gets a canary.
const IDENTIFYING: &[(Tag, VR)] = &[
    (tags::PATIENT_NAME, VR::PN),
    (tags::PATIENT_ID, VR::LO),
    (tags::OTHER_PATIENT_NAMES, VR::PN),
    (tags::PATIENT_ADDRESS, VR::LO),
    (tags::PATIENT_COMMENTS, VR::LT),
    (tags::ACCESSION_NUMBER, VR::SH),
    (tags::STUDY_ID, VR::SH),
    (tags::STUDY_DESCRIPTION, VR::LO),
    (tags::SERIES_DESCRIPTION, VR::LO),
    (tags::INSTITUTION_NAME, VR::LO),
    (tags::INSTITUTION_ADDRESS, VR::ST),
    (tags::REFERRING_PHYSICIAN_NAME, VR::PN),
    (tags::OPERATORS_NAME, VR::PN),
    (tags::STATION_NAME, VR::SH),
    (tags::DEVICE_SERIAL_NUMBER, VR::LO),
    (tags::IMAGE_COMMENTS, VR::LT),
    (tags::REQUESTED_PROCEDURE_DESCRIPTION, VR::LO),
];

/// A 64x64 CT picture with a square on the left (class 0) or the right (class 1); every
/// identifying element holds `canary` and a number of its own.
pub(crate) fn ct(class: usize, number: u32, canary: &str) -> Vec<u8> {
    let mut object = InMemDicomObject::new_empty();
    let mut put = |tag, vr, value: PrimitiveValue| object.put(DataElement::new(tag, vr, value));
    for (at, (tag, vr)) in IDENTIFYING.iter().enumerate() {
        // The patient's own number is last, so that PatientID and PatientName name a patient each.
        put(*tag, *vr, PrimitiveValue::from(format!("{canary}{at:02}N{number}")));
    }
    put(tags::PATIENT_BIRTH_DATE, VR::DA, PrimitiveValue::from("19370213"));
    put(Tag(0x0009, 0x0010), VR::LO, PrimitiveValue::from(format!("{canary}PRIVATE")));
    put(Tag(0x0009, 0x1001), VR::LO, PrimitiveValue::from(format!("{canary}SECRET")));
    let uid = format!("1.2.826.0.1.3680043.10.7.{number}");
    put(tags::SOP_CLASS_UID, VR::UI, PrimitiveValue::from(uids::CT_IMAGE_STORAGE));
    put(tags::SOP_INSTANCE_UID, VR::UI, PrimitiveValue::from(uid.as_str()));
    put(tags::STUDY_INSTANCE_UID, VR::UI, PrimitiveValue::from(format!("{uid}.1")));
    put(tags::MODALITY, VR::CS, PrimitiveValue::from("CT"));
    put(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, PrimitiveValue::from("MONOCHROME2"));
    put(tags::SAMPLES_PER_PIXEL, VR::US, PrimitiveValue::from(1_u16));
    put(tags::ROWS, VR::US, PrimitiveValue::from(64_u16));
    put(tags::COLUMNS, VR::US, PrimitiveValue::from(64_u16));
    put(tags::BITS_ALLOCATED, VR::US, PrimitiveValue::from(16_u16));
    put(tags::BITS_STORED, VR::US, PrimitiveValue::from(16_u16));
    put(tags::HIGH_BIT, VR::US, PrimitiveValue::from(15_u16));
    put(tags::PIXEL_REPRESENTATION, VR::US, PrimitiveValue::from(0_u16));
    put(tags::RESCALE_INTERCEPT, VR::DS, PrimitiveValue::from("-1024"));
    put(tags::RESCALE_SLOPE, VR::DS, PrimitiveValue::from("1"));
    put(tags::WINDOW_CENTER, VR::DS, PrimitiveValue::from("40"));
    put(tags::WINDOW_WIDTH, VR::DS, PrimitiveValue::from("400"));
    let pixels: Vec<u16> = (0..64_u32 * 64)
        .map(|at| {
            let (x, y) = (at % 64, at / 64);
            let inside = (16..48).contains(&y) && (x < 32) == (class == 0);
            let noise = ((x * 31 + y * 17 + number * 101).wrapping_mul(2_654_435_761) >> 26) as u16;
            if inside { 1150 + noise } else { 950 + noise }
        })
        .collect();
    put(tags::PIXEL_DATA, VR::OW, PrimitiveValue::U16(pixels.into()));

    let meta = FileMetaTableBuilder::new()
        .transfer_syntax(uids::EXPLICIT_VR_LITTLE_ENDIAN)
        .media_storage_sop_class_uid(uids::CT_IMAGE_STORAGE)
        .media_storage_sop_instance_uid(&uid);
    let file = object.with_meta(meta).expect("a complete meta table");
    let mut bytes = Vec::new();
    file.write_all(&mut bytes).expect("a file in memory");
    bytes
}
