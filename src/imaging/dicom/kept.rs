//! Lists of the elements that are read of a DICOM file, and of those that are kept.

use dicom_core::Tag;
use dicom_dictionary_std::tags;

use super::identifiers::identifies;

/// The range of a number that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Measure {
    /// Millimetres, or their ratio.
    Length,
    /// A value of pixels: an integer of 16 bits, signed as the pixels are.
    Stored,
    /// Any number.
    Any,
}

/// The numbers that are kept, wherever they stand, and how many of each.
pub(super) const NUMBERS: &[(Tag, Measure, usize)] = &[
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
pub(super) const SEQUENCES: &[Tag] = &[
    tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE,
    tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE,
    tags::PIXEL_VALUE_TRANSFORMATION_SEQUENCE,
    tags::FRAME_VOILUT_SEQUENCE,
    tags::PIXEL_MEASURES_SEQUENCE,
];

/// The elements that are read and written anew in a form of their own: the header of the pixels,
/// lookup tables, what notices are made of.
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
pub(super) const KEPT_WORDS: &[(Tag, &[&str])] = &[
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

/// A modality that the standard defines; anything else could be anything.
pub(super) fn known_modality(text: &str) -> Option<&'static str> {
    MODALITIES.iter().copied().find(|known| *known == text)
}

/// A colour model that the standard defines; anything else could be anything.
pub(super) fn known_colour_model(text: &str) -> Option<&'static str> {
    COLOUR_MODELS.iter().copied().find(|known| *known == text)
}
