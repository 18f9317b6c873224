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

use super::ImagingError;
use super::dicom::{Header, code, element, items};
use super::guard::DicomFile;
use super::identifiers::identifies;
use super::stored::{StoredPixels, put_tables};
use crate::domain::Sha256;

/// What a number that is kept may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Measure {
    /// Millimetres, or their ratio.
    Length,
    /// A value of pixels: an integer of 16 bits, signed as the pixels are.
    Stored,
    /// Any number.
    Any,
}

/// The numbers that are kept, wherever they stand, and how many of each.
const NUMBERS: &[(Tag, Measure, usize)] = &[
    (tags::PIXEL_SPACING, Measure::Length, 2),
    (tags::IMAGER_PIXEL_SPACING, Measure::Length, 2),
    (tags::NOMINAL_SCANNED_PIXEL_SPACING, Measure::Length, 2),
    (tags::SPACING_BETWEEN_SLICES, Measure::Length, 1),
    (tags::SLICE_THICKNESS, Measure::Length, 1),
    (tags::PIXEL_ASPECT_RATIO, Measure::Length, 2),
    (tags::SMALLEST_IMAGE_PIXEL_VALUE, Measure::Stored, 1),
    (tags::LARGEST_IMAGE_PIXEL_VALUE, Measure::Stored, 1),
    (tags::PIXEL_PADDING_VALUE, Measure::Stored, 1),
    (tags::PIXEL_PADDING_RANGE_LIMIT, Measure::Stored, 1),
    (tags::WINDOW_CENTER, Measure::Any, 16),
    (tags::WINDOW_WIDTH, Measure::Any, 16),
    (tags::RESCALE_INTERCEPT, Measure::Any, 1),
    (tags::RESCALE_SLOPE, Measure::Any, 1),
];

/// The sequences whose items are filtered by the same lists.
const SEQUENCES: &[Tag] = &[
    tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE,
    tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE,
    tags::PIXEL_VALUE_TRANSFORMATION_SEQUENCE,
    tags::FRAME_VOILUT_SEQUENCE,
    tags::PIXEL_MEASURES_SEQUENCE,
];

/// What is read and written anew in a form of its own: the header of the pixels, lookup tables, what
/// notices are made of.
const READ: &[Tag] = &[
    tags::SPECIFIC_CHARACTER_SET,
    tags::BURNED_IN_ANNOTATION,
    tags::SAMPLES_PER_PIXEL,
    tags::PLANAR_CONFIGURATION,
    tags::NUMBER_OF_FRAMES,
    tags::ROWS,
    tags::COLUMNS,
    tags::BITS_ALLOCATED,
    tags::BITS_STORED,
    tags::HIGH_BIT,
    tags::PIXEL_REPRESENTATION,
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

/// Whether anything here reads the element: nothing else of a file gets to the parser.
pub(super) fn is_read(tag: Tag) -> bool {
    READ.contains(&tag)
        || SEQUENCES.contains(&tag)
        || identifies(tag)
        || NUMBERS.iter().any(|(number, ..)| *number == tag)
        || KEPT_WORDS.iter().any(|(word, _)| *word == tag)
}

/// The file without anything that is not on the lists, as a complete file.
pub(super) fn strip_dicom(
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

/// A modality that the standard defines; anything else could be anything.
pub(super) fn known_modality(text: &str) -> Option<&'static str> {
    MODALITIES.iter().copied().find(|known| *known == text)
}

/// A colour model that the standard defines; anything else could be anything.
pub(super) fn known_colour_model(text: &str) -> Option<&'static str> {
    COLOUR_MODELS.iter().copied().find(|known| *known == text)
}

/// `2.25.` and 128 bits of the digest of the pixels (PS3.5 B.2).
fn content_uid(pixels: &[u8]) -> String {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&Sha256::of(pixels).as_bytes()[..16]);
    format!("2.25.{}", u128::from_be_bytes(bytes))
}
