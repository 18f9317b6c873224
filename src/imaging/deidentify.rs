//! De-identification: what is kept of a file is on a list; everything else is gone.
//!
//! A DICOM object keeps what decoding, windowing and scaling need, and no free text. Its UIDs are
//! replaced by ones made of its pixels. Later profiles (PS3.15 Annex E) start from here.

use dicom_core::value::Value;
use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::tags;
use dicom_object::{DefaultDicomObject, FileMetaTableBuilder, InMemDicomObject};

use super::ImagingError;
use super::dicom::code;
use super::segments::blank_comments;
use crate::domain::Sha256;

/// Elements that are kept wherever they stand: numbers, and the sequences that hold them.
const KEPT: &[Tag] = &[
    tags::SAMPLES_PER_PIXEL,
    tags::PLANAR_CONFIGURATION,
    tags::NUMBER_OF_FRAMES,
    tags::ROWS,
    tags::COLUMNS,
    tags::PIXEL_SPACING,
    tags::IMAGER_PIXEL_SPACING,
    tags::NOMINAL_SCANNED_PIXEL_SPACING,
    tags::SPACING_BETWEEN_SLICES,
    tags::SLICE_THICKNESS,
    tags::PIXEL_ASPECT_RATIO,
    tags::BITS_ALLOCATED,
    tags::BITS_STORED,
    tags::HIGH_BIT,
    tags::PIXEL_REPRESENTATION,
    tags::SMALLEST_IMAGE_PIXEL_VALUE,
    tags::LARGEST_IMAGE_PIXEL_VALUE,
    tags::PIXEL_PADDING_VALUE,
    tags::WINDOW_CENTER,
    tags::WINDOW_WIDTH,
    tags::RESCALE_INTERCEPT,
    tags::RESCALE_SLOPE,
    tags::MODALITY_LUT_SEQUENCE,
    tags::VOILUT_SEQUENCE,
    tags::LUT_DESCRIPTOR,
    tags::LUT_DATA,
    tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
    tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
    tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
    tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DATA,
    tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DATA,
    tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DATA,
    tags::SEGMENTED_RED_PALETTE_COLOR_LOOKUP_TABLE_DATA,
    tags::SEGMENTED_GREEN_PALETTE_COLOR_LOOKUP_TABLE_DATA,
    tags::SEGMENTED_BLUE_PALETTE_COLOR_LOOKUP_TABLE_DATA,
    tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE,
    tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE,
    tags::PIXEL_VALUE_TRANSFORMATION_SEQUENCE,
    tags::FRAME_VOILUT_SEQUENCE,
    tags::PIXEL_MEASURES_SEQUENCE,
    tags::PIXEL_DATA,
];

/// The defined terms of Modality (PS3.3 C.7.3.1.1.1).
const MODALITIES: &[&str] = &[
    "AR",
    "ASMT",
    "AU",
    "BDUS",
    "BI",
    "BMD",
    "CD",
    "CF",
    "CP",
    "CR",
    "CS",
    "CT",
    "CTPROTOCOL",
    "DD",
    "DF",
    "DG",
    "DM",
    "DMS",
    "DOC",
    "DS",
    "DX",
    "EC",
    "ECG",
    "EEG",
    "EMG",
    "EOG",
    "EPS",
    "ES",
    "FA",
    "FID",
    "FS",
    "GM",
    "HC",
    "HD",
    "IO",
    "IOL",
    "IVOCT",
    "IVUS",
    "KER",
    "KO",
    "LEN",
    "LP",
    "LS",
    "M3D",
    "MA",
    "MG",
    "MR",
    "MS",
    "NM",
    "OAM",
    "OCT",
    "OP",
    "OPM",
    "OPR",
    "OPT",
    "OPTBSV",
    "OPTENF",
    "OPV",
    "OSS",
    "OT",
    "PA",
    "PLAN",
    "POS",
    "PR",
    "PT",
    "PX",
    "REG",
    "RESP",
    "RF",
    "RG",
    "RTDOSE",
    "RTIMAGE",
    "RTINTENT",
    "RTPLAN",
    "RTRAD",
    "RTRECORD",
    "RTSEGANN",
    "RTSTRUCT",
    "RWV",
    "SEG",
    "SM",
    "SMR",
    "SR",
    "SRF",
    "ST",
    "STAIN",
    "TEXTUREMAP",
    "TG",
    "US",
    "VA",
    "VF",
    "VIDD",
    "XA",
    "XC",
];

/// The colour models that decoding tells apart (PS3.3 C.7.6.3.1.2).
const COLOUR_MODELS: &[&str] = &[
    "MONOCHROME1",
    "MONOCHROME2",
    "PALETTE COLOR",
    "RGB",
    "YBR_FULL",
    "YBR_FULL_422",
    "YBR_PARTIAL_422",
    "YBR_PARTIAL_420",
    "YBR_ICT",
    "YBR_RCT",
    "XYB",
    "HSV",
    "ARGB",
    "CMYK",
];

/// Code strings that are kept when they hold one of these words.
const KEPT_WORDS: &[(Tag, &[&str])] = &[
    (tags::MODALITY, MODALITIES),
    (tags::PHOTOMETRIC_INTERPRETATION, COLOUR_MODELS),
    (tags::LOSSY_IMAGE_COMPRESSION, &["00", "01"]),
    (tags::LATERALITY, &["L", "R", "B", "U"]),
    (tags::IMAGE_LATERALITY, &["L", "R", "B", "U"]),
    (tags::VIEW_POSITION, &["AP", "PA", "LL", "RL", "RLD", "LLD", "RLO", "LLO", "CC", "MLO"]),
];

/// The object without anything that is not on the lists, as a complete file.
pub(super) fn strip_dicom(object: &DefaultDicomObject) -> Result<Vec<u8>, ImagingError> {
    let mut kept = InMemDicomObject::new_empty();
    for element in object.iter().filter_map(keep) {
        kept.put(element);
    }
    if let Some(pixels) = without_comments(&kept) {
        kept.put(pixels);
    }
    for (tag, words) in KEPT_WORDS {
        if let Some(text) = code(object, *tag).filter(|text| words.contains(&text.as_str())) {
            kept.put(DataElement::new(*tag, VR::CS, PrimitiveValue::from(text)));
        }
    }
    // PS3.3 C.12.1.1 wants an instance UID; one made of the content names equal content equally.
    let uid = content_uid(&kept);
    let class = dicom_dictionary_std::uids::SECONDARY_CAPTURE_IMAGE_STORAGE;
    kept.put(DataElement::new(tags::SOP_CLASS_UID, VR::UI, PrimitiveValue::from(class)));
    kept.put(DataElement::new(tags::SOP_INSTANCE_UID, VR::UI, PrimitiveValue::from(uid.as_str())));
    kept.put(DataElement::new(tags::PATIENT_IDENTITY_REMOVED, VR::CS, PrimitiveValue::from("YES")));
    let syntax = object.meta().transfer_syntax().trim_end_matches(['\0', ' ']).to_owned();
    let failed = || ImagingError::BrokenDicom("what is kept of it cannot be written".to_owned());
    let file = kept
        .with_meta(
            FileMetaTableBuilder::new()
                .transfer_syntax(syntax)
                .media_storage_sop_class_uid(class)
                .media_storage_sop_instance_uid(uid),
        )
        .map_err(|_| failed())?;
    let mut bytes = Vec::new();
    file.write_all(&mut bytes).map_err(|_| failed())?;
    Ok(bytes)
}

/// The element if it is on the list, its items filtered by the same list.
fn keep(element: &dicom_object::mem::InMemElement) -> Option<dicom_object::mem::InMemElement> {
    let tag = element.header().tag;
    if !KEPT.contains(&tag) {
        return None;
    }
    let Some(items) = element.items() else {
        return holds_numbers(element).then(|| element.clone());
    };
    let filtered: Vec<InMemDicomObject> = items
        .iter()
        .map(|item| {
            let mut kept = InMemDicomObject::new_empty();
            for element in item.iter().filter_map(keep) {
                kept.put(element);
            }
            kept
        })
        .collect();
    Some(DataElement::new(
        tag,
        VR::SQ,
        Value::Sequence(dicom_core::value::DataSetSequence::from(filtered)),
    ))
}

/// The compressed pixels with every comment and application segment of their JPEG frames blanked:
/// what they said is gone, and every offset still holds. `None` when there is nothing to blank.
fn without_comments(object: &InMemDicomObject) -> Option<dicom_object::mem::InMemElement> {
    let pixels = object.element_opt(tags::PIXEL_DATA).ok().flatten()?;
    let fragments = pixels.value().fragments()?;
    let offsets = pixels.value().offset_table().unwrap_or_default().to_vec();
    let mut blanked = fragments.to_vec();
    blanked.iter_mut().for_each(|fragment| blank_comments(fragment));
    let value = dicom_core::value::PixelFragmentSequence::new(offsets, blanked);
    Some(DataElement::new(tags::PIXEL_DATA, VR::OB, Value::PixelSequence(value)))
}

/// Elements whose bytes are tables or pixels.
const DATA: &[Tag] = &[
    tags::PIXEL_DATA,
    tags::LUT_DATA,
    tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DATA,
    tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DATA,
    tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DATA,
    tags::SEGMENTED_RED_PALETTE_COLOR_LOOKUP_TABLE_DATA,
    tags::SEGMENTED_GREEN_PALETTE_COLOR_LOOKUP_TABLE_DATA,
    tags::SEGMENTED_BLUE_PALETTE_COLOR_LOOKUP_TABLE_DATA,
];

/// Whether an element holds what its tag is kept for. A writer may put a name into any tag, under
/// any representation; text is kept only when it spells numbers.
fn holds_numbers(element: &dicom_object::mem::InMemElement) -> bool {
    match element.vr() {
        VR::US | VR::SS | VR::UL | VR::SL | VR::UV | VR::SV | VR::FL | VR::FD | VR::AT => true,
        VR::OB | VR::OW | VR::OL | VR::OF | VR::OD | VR::OV | VR::UN => {
            DATA.contains(&element.header().tag)
        }
        VR::DS | VR::IS => element.to_str().is_ok_and(|text| {
            text.trim_matches(['\0', ' '])
                .chars()
                .all(|c| c.is_ascii_digit() || "+-.eE\\ ".contains(c))
        }),
        _ => false,
    }
}

/// A colour model that the standard defines; anything else could be anything.
pub(super) fn known_colour_model(text: &str) -> Option<&'static str> {
    COLOUR_MODELS.iter().copied().find(|known| *known == text)
}

/// A modality that the standard defines; anything else could be anything.
pub(super) fn known_modality(text: &str) -> Option<&'static str> {
    MODALITIES.iter().copied().find(|known| *known == text)
}

/// `2.25.` and 128 bits of the digest of the pixels (PS3.5 B.2).
fn content_uid(object: &InMemDicomObject) -> String {
    let mut content = Vec::new();
    if let Ok(Some(element)) = object.element_opt(tags::PIXEL_DATA) {
        if let Some(fragments) = element.value().fragments() {
            fragments.iter().for_each(|fragment| content.extend_from_slice(fragment));
        } else if let Ok(bytes) = element.to_bytes() {
            content.extend_from_slice(&bytes);
        }
        content.extend(element.header().len.0.to_le_bytes());
    }
    let digest = Sha256::of(&content);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest.as_bytes()[..16]);
    format!("2.25.{}", u128::from_be_bytes(bytes))
}
