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
use super::guard::first_line;
use super::patient::Identifiers;
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

/// The elements that name the patient or the visit, to be masked wherever they may show.
const IDENTIFYING: &[Tag] = &[
    tags::PATIENT_ID,
    tags::PATIENT_NAME,
    tags::PATIENT_BIRTH_DATE,
    tags::ACCESSION_NUMBER,
    tags::OTHER_PATIENT_NAMES,
    tags::STUDY_ID,
];

/// What identifies the patient of an object.
pub(super) fn identifiers(object: &InMemDicomObject) -> Identifiers {
    let text = |tag: Tag| {
        let element = object.element_opt(tag).ok().flatten()?;
        let text = element.to_str().ok()?.trim_matches(['\0', ' ']).to_owned();
        (!text.is_empty()).then_some(text)
    };
    let patient = text(tags::PATIENT_ID).or_else(|| text(tags::PATIENT_NAME));
    Identifiers::new(patient, IDENTIFYING.iter().filter_map(|tag| text(*tag)))
}

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
    let failed = |error: &dyn std::error::Error| ImagingError::BrokenDicom(first_line(error));
    let file = kept
        .with_meta(
            FileMetaTableBuilder::new()
                .transfer_syntax(syntax)
                .media_storage_sop_class_uid(class)
                .media_storage_sop_instance_uid(uid),
        )
        .map_err(|error| failed(&error))?;
    let mut bytes = Vec::new();
    file.write_all(&mut bytes).map_err(|error| failed(&error))?;
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

/// Zeroes the comments and foreign application segments before the first scan of a JPEG.
fn blank_comments(jpeg: &mut [u8]) {
    if !jpeg.starts_with(&[0xFF, 0xD8]) {
        return;
    }
    let mut at = 2;
    while let Some(&[0xFF, marker, high, low]) = jpeg.get(at..at + 4) {
        let end = at + 2 + usize::from(u16::from_be_bytes([high, low]));
        let Some(content) = jpeg.get_mut(at + 4..end) else { return };
        match marker {
            0xDA | 0xD9 => return,
            // JFIF, Adobe and the colour transform of JPEG-LS decide how pixels are read.
            0xE0 if content.starts_with(b"JFIF") => {}
            0xEE if content.starts_with(b"Adobe") => {}
            0xE8 if content.starts_with(b"mrfx") => {}
            0xE0..=0xEF | 0xFE => content.fill(0),
            _ => {}
        }
        at = end;
    }
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

/// A PNG with the chunks that make up its picture, and no others.
pub(super) fn strip_png(bytes: &[u8]) -> Result<Vec<u8>, ImagingError> {
    const SIGNATURE: usize = 8;
    const KEPT: &[&[u8; 4]] =
        &[b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"sBIT"];
    let broken = |reason: &str| ImagingError::Raster { format: "PNG", reason: reason.to_owned() };
    let mut kept = bytes.get(..SIGNATURE).ok_or_else(|| broken("it is cut short"))?.to_vec();
    let mut at = SIGNATURE;
    loop {
        let header = bytes.get(at..at + 8).ok_or_else(|| broken("it ends without IEND"))?;
        let length = u32::from_be_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let chunk = bytes.get(at..at + 12 + length).ok_or_else(|| broken("it is cut short"))?;
        let kind = &chunk[4..8];
        if KEPT.iter().any(|name| name.as_slice() == kind) {
            kept.extend_from_slice(chunk);
        }
        if kind == b"IEND" {
            return Ok(kept);
        }
        at += chunk.len();
    }
}

/// A JPEG without its application data and comments, and whether those asked for a rotation.
pub(super) fn strip_jpeg(bytes: &[u8]) -> Result<(Vec<u8>, bool), ImagingError> {
    let broken = || ImagingError::Raster { format: "JPEG", reason: "it is cut short".to_owned() };
    let (mut kept, mut at, mut rotated) = (vec![0xFF, 0xD8], 2, false);
    loop {
        let marker = *bytes.get(at + 1).ok_or_else(broken)?;
        if bytes[at] != 0xFF {
            return Err(broken());
        }
        match marker {
            // Fill bytes may come before any marker.
            0xFF => at += 1,
            0xD9 => {
                kept.extend([0xFF, 0xD9]);
                return Ok((kept, rotated));
            }
            0x01 | 0xD0..=0xD7 => {
                kept.extend([0xFF, marker]);
                at += 2;
            }
            _ => {
                let length = bytes.get(at + 2..at + 4).ok_or_else(broken)?;
                let end = at + 2 + usize::from(u16::from_be_bytes([length[0], length[1]]));
                let segment = bytes.get(at..end).ok_or_else(broken)?;
                let dropped = match marker {
                    0xE0 => segment.get(4..9) != Some(b"JFIF\0"),
                    0xEE => segment.get(4..9) != Some(b"Adobe"),
                    0xE1..=0xEF | 0xFE => true,
                    _ => false,
                };
                rotated |= marker == 0xE1 && asks_for_rotation(segment);
                if !dropped {
                    kept.extend_from_slice(segment);
                }
                at = end;
                if marker == 0xDA {
                    let scan = entropy_coded(&bytes[at..]);
                    kept.extend_from_slice(&bytes[at..at + scan]);
                    at += scan;
                }
            }
        }
    }
}

/// How many bytes of entropy-coded data come before the next marker (ITU-T T.81 B.1.1.5).
fn entropy_coded(bytes: &[u8]) -> usize {
    let marker = bytes
        .windows(2)
        .position(|two| two[0] == 0xFF && !matches!(two[1], 0x00 | 0xFF | 0xD0..=0xD7));
    marker.unwrap_or(bytes.len())
}

/// Whether an EXIF segment carries an orientation other than upright (EXIF 2.3, tag 0x0112).
fn asks_for_rotation(segment: &[u8]) -> bool {
    let Some(tiff) = segment.strip_prefix(&segment[..4.min(segment.len())]) else { return false };
    let Some(tiff) = tiff.strip_prefix(b"Exif\0\0") else { return false };
    let big = tiff.starts_with(b"MM");
    let entry: &[u8] =
        if big { &[0x01, 0x12, 0, 3, 0, 0, 0, 1, 0] } else { &[0x12, 0x01, 3, 0, 1, 0, 0, 0] };
    let value = tiff.windows(entry.len() + 1).find(|window| window.starts_with(entry));
    value.and_then(|window| window.last()).is_some_and(|orientation| *orientation > 1)
}
