//! DICOM objects into pictures: stored values, modality values, photometric interpretation.

use dicom_core::Tag;
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;

use super::attribute::{code, decimal, element, integer, items};
use super::guard::DicomFile;
use super::header::Header;
use super::kept::{known_colour_model, known_modality};
use super::pixels::table::Table;
use super::pixels::values::Values;
use crate::config::Limits;
use crate::domain::image::Window;
use crate::imaging::error::ImagingError;
use crate::imaging::picture::{Picture, Samples, robust_range};

/// Reads and checks what the object says of its pixels.
pub(in crate::imaging) fn header(
    object: &DicomFile<'_>,
    limits: &Limits,
) -> Result<Header, ImagingError> {
    if object.pixels.is_none() {
        return Err(if object.floats {
            ImagingError::Unsupported("floating-point numbers".to_owned())
        } else {
            ImagingError::NoPixels
        });
    }
    let number = |tag: Tag| integer(object, tag).and_then(|value| u32::try_from(value).ok());
    let missing = |what: &str| ImagingError::BrokenDicom(format!("it has no {what}"));
    let (width, height) = (
        number(tags::COLUMNS).filter(|width| *width > 0).ok_or_else(|| missing("Columns"))?,
        number(tags::ROWS).filter(|height| *height > 0).ok_or_else(|| missing("Rows"))?,
    );
    let frames = number(tags::NUMBER_OF_FRAMES).unwrap_or(1).max(1);
    let samples = number(tags::SAMPLES_PER_PIXEL).unwrap_or(1);
    let bits_allocated = number(tags::BITS_ALLOCATED).ok_or_else(|| missing("BitsAllocated"))?;
    let bits_stored = number(tags::BITS_STORED).unwrap_or(bits_allocated);
    if !matches!(bits_allocated, 1 | 8 | 16 | 32)
        || bits_stored == 0
        || bits_stored > bits_allocated
    {
        let what = format!("{bits_stored} bits stored in {bits_allocated}");
        return Err(ImagingError::Unsupported(what));
    }
    if !matches!(samples, 1 | 3) {
        return Err(ImagingError::Unsupported(format!("{samples} samples a pixel")));
    }
    let photometric = photometric(object, samples)?;
    let pixels = u64::from(width) * u64::from(height);
    if pixels > limits.pixels {
        let (width, height) = (u64::from(width), u64::from(height));
        return Err(ImagingError::TooManyPixels { width, height, max: limits.pixels });
    }
    if frames > limits.frames {
        return Err(ImagingError::TooManyFrames { found: u64::from(frames), max: limits.frames });
    }
    let found =
        pixels * u64::from(samples) * u64::from(bits_allocated.div_ceil(8)) * u64::from(frames);
    if found > limits.decoded_bytes {
        return Err(ImagingError::TooManyBytes { found, max: limits.decoded_bytes });
    }
    Ok(Header {
        width,
        height,
        frames,
        modality: code(object, tags::MODALITY)
            .and_then(|text| known_modality(&text).map(str::to_owned)),
        samples,
        bits_allocated,
        bits_stored,
        // PS3.5 8.1.1: the stored bits end at High Bit; one that they cannot end at is ignored.
        shift: number(tags::HIGH_BIT)
            .filter(|high| *high < bits_allocated)
            .and_then(|high| (high + 1).checked_sub(bits_stored))
            .unwrap_or(0),
        signed: number(tags::PIXEL_REPRESENTATION) == Some(1),
        planar: number(tags::PLANAR_CONFIGURATION) == Some(1),
        photometric: photometric.to_owned(),
    })
}

/// The Photometric Interpretation, which must be one that pixels of as many samples can have (PS3.3
/// C.7.6.3.1.2). Any other could say anything, and is not repeated.
fn photometric(object: &DicomFile<'_>, samples: u32) -> Result<&'static str, ImagingError> {
    let refused = |what: String| Err(ImagingError::Unsupported(what));
    let named = code(object, tags::PHOTOMETRIC_INTERPRETATION);
    let Some(known) = named.as_deref().and_then(known_colour_model) else {
        let present = element(object, tags::PHOTOMETRIC_INTERPRETATION);
        let is_empty = present.is_none_or(|element| element.header().len.0 == 0);
        let what = if is_empty { "is empty" } else { "is none that the standard defines" };
        return refused(format!("their Photometric Interpretation {what}"));
    };
    let is_grey = matches!(known, "MONOCHROME1" | "MONOCHROME2" | "PALETTE COLOR");
    if is_grey != (samples == 1) {
        return refused(format!(
            "Photometric Interpretation {known} with {samples} sample(s) a pixel"
        ));
    }
    Ok(known)
}

/// Decodes one frame.
pub(in crate::imaging) fn frame(
    object: &DicomFile<'_>,
    header: &Header,
    frame: u32,
) -> Result<Picture, ImagingError> {
    if frame >= header.frames {
        return Err(ImagingError::NoSuchFrame { frame, frames: header.frames });
    }
    let values = Values::of(object, header, frame)?;
    let samples = match (header.samples, header.photometric.as_str()) {
        (3, _) => Samples::Rgb(values.colour(header)?),
        (_, "PALETTE COLOR") => Samples::Rgb(palette(object, header, values.stored(header)?)?),
        _ => Samples::Gray(values.stored(header)?.map(|value| value as f32).collect()),
    };
    let mut picture = Picture {
        width: header.width,
        height: header.height,
        samples,
        range: (0.0, 255.0),
        window: None,
        modality: header.modality.clone(),
    };
    if let Samples::Gray(values) = &mut picture.samples {
        let modality = Modality::of(object, header, frame);
        let inverted = header.photometric == "MONOCHROME1";
        let (low, high) = modality.range(header);
        for value in values.iter_mut() {
            let meant = modality.value(f64::from(*value));
            *value = if inverted { low + high - meant } else { meant } as f32;
        }
        picture.range = robust_range(values);
        picture.window = window(object, frame).map(|Window { center, width }| Window {
            // The window is inverted with the values it was recorded for.
            center: if inverted { low + high - center + 1.0 } else { center },
            width,
        });
    }
    Ok(picture)
}

/// Palette colour (PS3.3 C.7.6.3.1.5 and C.7.9).
fn palette(
    object: &DicomFile<'_>,
    header: &Header,
    stored: impl Iterator<Item = i64>,
) -> Result<Vec<u8>, ImagingError> {
    let tables = palette_tables(object, header.signed)?;
    let narrow = |table: &Table, value: i64| {
        let entry = table.entry(value as f64);
        if table.bits > 8 { (entry >> 8) as u8 } else { entry as u8 }
    };
    Ok(stored.flat_map(|value| tables.each_ref().map(|table| narrow(table, value))).collect())
}

/// The descriptor and the data of a palette's tables, in either of their forms: red, green, blue.
pub(super) const PALETTES: [(Tag, Tag, Tag); 3] = [
    (
        tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
        tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DATA,
        tags::SEGMENTED_RED_PALETTE_COLOR_LOOKUP_TABLE_DATA,
    ),
    (
        tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
        tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DATA,
        tags::SEGMENTED_GREEN_PALETTE_COLOR_LOOKUP_TABLE_DATA,
    ),
    (
        tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
        tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DATA,
        tags::SEGMENTED_BLUE_PALETTE_COLOR_LOOKUP_TABLE_DATA,
    ),
];

/// The tables of a palette: red, green, blue.
pub(super) fn palette_tables(
    object: &InMemDicomObject,
    signed: bool,
) -> Result<[Table; 3], ImagingError> {
    let read = |(descriptor, data, segmented)| {
        Table::read(object, descriptor, data, signed)
            .or_else(|| Table::read_segmented(object, descriptor, segmented, signed))
    };
    match PALETTES.map(read) {
        [Some(red), Some(green), Some(blue)] => Ok([red, green, blue]),
        _ => {
            let what = "a palette without readable lookup tables";
            Err(ImagingError::Unsupported(what.to_owned()))
        }
    }
}

/// From stored values to the values that are meant (PS3.3 C.11.1).
pub(super) enum Modality {
    Rescale { slope: f64, intercept: f64 },
    Table(Table),
}

impl Modality {
    pub(super) fn of(object: &InMemDicomObject, header: &Header, frame: u32) -> Self {
        let table = items(object, tags::MODALITY_LUT_SEQUENCE).and_then(|items| {
            Table::read(items.first()?, tags::LUT_DESCRIPTOR, tags::LUT_DATA, header.signed)
        });
        if let Some(table) = table {
            return Self::Table(table);
        }
        let number =
            |tag| functional(object, frame, tags::PIXEL_VALUE_TRANSFORMATION_SEQUENCE, tag);
        Self::Rescale {
            slope: number(tags::RESCALE_SLOPE).filter(|slope| *slope != 0.0).unwrap_or(1.0),
            intercept: number(tags::RESCALE_INTERCEPT).unwrap_or(0.0),
        }
    }

    pub(super) fn value(&self, stored: f64) -> f64 {
        match self {
            Self::Rescale { slope, intercept } => stored * slope + intercept,
            Self::Table(table) => f64::from(table.entry(stored)),
        }
    }

    /// The least and greatest value that can be meant: what MONOCHROME1 is inverted about.
    fn range(&self, header: &Header) -> (f64, f64) {
        let span = 2_f64.powi(header.bits_stored as i32);
        let (low, high) =
            if header.signed { (-span / 2.0, span / 2.0 - 1.0) } else { (0.0, span - 1.0) };
        match self {
            Self::Rescale { .. } => (self.value(low), self.value(high)),
            Self::Table(table) => (0.0, 2_f64.powi(table.bits as i32) - 1.0),
        }
    }
}

/// The first window that the object records for a frame.
fn window(object: &InMemDicomObject, frame: u32) -> Option<Window> {
    let number = |tag| functional(object, frame, tags::FRAME_VOILUT_SEQUENCE, tag);
    let (center, width) = (number(tags::WINDOW_CENTER)?, number(tags::WINDOW_WIDTH)?);
    (center.is_finite() && width.is_finite() && width > 0.0).then_some(Window { center, width })
}

/// A number of the object itself, or of its per-frame or shared functional groups (C.7.6.16).
fn functional(object: &InMemDicomObject, frame: u32, group: Tag, tag: Tag) -> Option<f64> {
    decimal(object, tag).or_else(|| {
        let per_frame = items(object, tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE)
            .and_then(|items| items.get(frame as usize));
        let shared = items(object, tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE)
            .and_then(<[InMemDicomObject]>::first);
        [per_frame, shared]
            .into_iter()
            .flatten()
            .find_map(|groups| decimal(items(groups, group)?.first()?, tag))
    })
}
