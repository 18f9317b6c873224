//! DICOM objects into pictures: stored values, modality values, photometric interpretation.

use dicom_core::Tag;
use dicom_dictionary_std::tags;
use dicom_object::{DefaultDicomObject, InMemDicomObject};
use dicom_pixeldata::{DecodedPixelData, PixelDecoder};

use super::ImagingError;
use super::guard::first_line;
use super::picture::{Picture, Samples, robust_range};
use crate::config::Limits;
use crate::domain::image::Window;

/// What an object says of its pixels, checked against the limits.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Header {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) frames: u32,
    pub(super) modality: Option<String>,
    samples: u32,
    bits_allocated: u32,
    bits_stored: u32,
    signed: bool,
    planar: bool,
    photometric: String,
}

/// Reads and checks what the object says of its pixels.
pub(super) fn header(object: &DefaultDicomObject, limits: &Limits) -> Result<Header, ImagingError> {
    if object.element_opt(tags::PIXEL_DATA).ok().flatten().is_none() {
        return Err(ImagingError::NoPixels);
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
        modality: code(object, tags::MODALITY),
        samples,
        bits_allocated,
        bits_stored,
        signed: number(tags::PIXEL_REPRESENTATION) == Some(1),
        planar: number(tags::PLANAR_CONFIGURATION) == Some(1),
        photometric: code(object, tags::PHOTOMETRIC_INTERPRETATION)
            .unwrap_or_else(|| "MONOCHROME2".to_owned()),
    })
}

/// Decodes one frame.
pub(super) fn frame(
    object: &DefaultDicomObject,
    header: &Header,
    frame: u32,
) -> Result<Picture, ImagingError> {
    if frame >= header.frames {
        return Err(ImagingError::NoSuchFrame { frame, frames: header.frames });
    }
    let decoded = object.decode_pixel_data_frame(frame).map_err(|error| {
        let syntax = object.meta().transfer_syntax().trim_end_matches(['\0', ' ']).to_owned();
        let text = first_line(&error);
        if text.contains("nsupported") && text.contains("ransfer") {
            ImagingError::TransferSyntax(syntax)
        } else {
            ImagingError::PixelData(text)
        }
    })?;
    let samples = match (header.samples, header.photometric.as_str()) {
        (3, _) => Samples::Rgb(colour(&decoded, header)?),
        (_, "PALETTE COLOR") => Samples::Rgb(palette(object, header, &stored(&decoded, header)?)?),
        _ => {
            Samples::Gray(stored(&decoded, header)?.into_iter().map(|value| value as f32).collect())
        }
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

/// Stored values (PS3.5 8.1.1): the low `bits stored` bits, sign extended where signed.
fn stored(decoded: &DecodedPixelData<'_>, header: &Header) -> Result<Vec<f64>, ImagingError> {
    let pixels = header.width as usize * header.height as usize;
    let data = decoded.data();
    // A codec may hand out fewer bits than the file allocates.
    let bits = u32::from(decoded.bits_allocated());
    let bytes = bits.div_ceil(8) as usize;
    if data.len() < pixels * bytes {
        let found = data.len();
        return Err(ImagingError::PixelData(format!(
            "a frame has {found} bytes where {} are needed",
            pixels * bytes
        )));
    }
    let kept = header.bits_stored.min(bits.max(8));
    let value = |raw: u32| -> f64 {
        let raw = if kept < 32 { raw & ((1_u32 << kept) - 1) } else { raw };
        if header.signed {
            let shift = 32 - kept;
            f64::from(((raw << shift) as i32) >> shift)
        } else {
            f64::from(raw)
        }
    };
    Ok(match bytes {
        1 => data[..pixels].iter().map(|byte| value(u32::from(*byte))).collect(),
        2 => data[..pixels * 2]
            .chunks_exact(2)
            .map(|two| value(u32::from(u16::from_ne_bytes([two[0], two[1]]))))
            .collect(),
        _ => data[..pixels * 4]
            .chunks_exact(4)
            .map(|four| value(u32::from_ne_bytes([four[0], four[1], four[2], four[3]])))
            .collect(),
    })
}

/// Colour pixels as interleaved 8-bit RGB.
fn colour(decoded: &DecodedPixelData<'_>, header: &Header) -> Result<Vec<u8>, ImagingError> {
    let pixels = header.width as usize * header.height as usize;
    let bytes = usize::from(decoded.bits_allocated().div_ceil(8));
    let data = decoded.data();
    let model = decoded.photometric_interpretation().to_string();
    if model == "YBR_FULL_422" && bytes == 1 && data.len() < pixels * 3 && data.len() >= pixels * 2
    {
        // PS3.3 C.7.6.3.1.2: Y1 Y2 Cb Cr for each pair of pixels.
        let rgb = data.chunks_exact(4).flat_map(|four| {
            let pair = [four[0], four[1]];
            pair.map(|y| ybr_to_rgb(y, four[2], four[3])).concat()
        });
        return Ok(rgb.take(pixels * 3).collect());
    }
    if data.len() < pixels * 3 * bytes {
        let (found, needed) = (data.len(), pixels * 3 * bytes);
        return Err(ImagingError::PixelData(format!(
            "a frame has {found} bytes where {needed} are needed"
        )));
    }
    // The top eight of the bits stored.
    let shift = header.bits_stored.saturating_sub(8);
    let narrow: Vec<u8> = match bytes {
        1 => data[..pixels * 3].to_vec(),
        2 => data[..pixels * 6]
            .chunks_exact(2)
            .map(|two| (u16::from_ne_bytes([two[0], two[1]]) >> shift) as u8)
            .collect(),
        _ => data[..pixels * 12]
            .chunks_exact(4)
            .map(|four| (u32::from_ne_bytes([four[0], four[1], four[2], four[3]]) >> shift) as u8)
            .collect(),
    };
    let planar = header.planar
        && decoded.planar_configuration() == dicom_pixeldata::PlanarConfiguration::PixelFirst;
    let interleaved: Vec<u8> = if planar {
        (0..pixels).flat_map(|at| [0, 1, 2].map(|plane| narrow[plane * pixels + at])).collect()
    } else {
        narrow
    };
    match model.as_str() {
        "RGB" => Ok(interleaved),
        "YBR_FULL" | "YBR_FULL_422" => Ok(interleaved
            .chunks_exact(3)
            .flat_map(|three| ybr_to_rgb(three[0], three[1], three[2]))
            .collect()),
        // The codec has undone these transforms already.
        "YBR_ICT" | "YBR_RCT" => Ok(interleaved),
        other => Err(ImagingError::Unsupported(format!("photometric interpretation {other}"))),
    }
}

/// PS3.3 C.7.6.3.1.2, YBR_FULL.
fn ybr_to_rgb(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    let (y, cb, cr) = (f32::from(y), f32::from(cb) - 128.0, f32::from(cr) - 128.0);
    [y + 1.402 * cr, y - 0.344_136 * cb - 0.714_136 * cr, y + 1.772 * cb]
        .map(|value| value.round().clamp(0.0, 255.0) as u8)
}

/// Palette colour (PS3.3 C.7.6.3.1.5 and C.7.9).
fn palette(
    object: &DefaultDicomObject,
    header: &Header,
    stored: &[f64],
) -> Result<Vec<u8>, ImagingError> {
    let mut tables = Vec::with_capacity(3);
    for (descriptor, data) in [
        (
            tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
            tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DATA,
        ),
        (
            tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
            tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DATA,
        ),
        (
            tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
            tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DATA,
        ),
    ] {
        let table = Table::read(object, descriptor, data, header.signed).ok_or_else(|| {
            ImagingError::Unsupported("a palette without plain lookup tables".to_owned())
        })?;
        tables.push(table);
    }
    let narrow = |table: &Table, value: f64| {
        let entry = table.entry(value);
        if table.bits > 8 { (entry >> 8) as u8 } else { entry as u8 }
    };
    Ok(stored
        .iter()
        .flat_map(|value| tables.iter().map(|table| narrow(table, *value)).collect::<Vec<u8>>())
        .collect())
}

/// From stored values to the values that are meant (PS3.3 C.11.1).
enum Modality {
    Rescale { slope: f64, intercept: f64 },
    Table(Table),
}

impl Modality {
    fn of(object: &InMemDicomObject, header: &Header, frame: u32) -> Self {
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

    fn value(&self, stored: f64) -> f64 {
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

/// A lookup table: descriptor and entries (PS3.3 C.11.1.1).
struct Table {
    first: f64,
    bits: u32,
    entries: Vec<u16>,
}

impl Table {
    fn read(object: &InMemDicomObject, descriptor: Tag, data: Tag, signed: bool) -> Option<Self> {
        let parts: Vec<i64> = element(object, descriptor)?.to_multi_int().ok()?;
        let [count, first, bits] = parts.try_into().ok()?;
        let count = if count & 0xFFFF == 0 { 65536 } else { (count & 0xFFFF) as usize };
        let first = if signed { f64::from(first as i16) } else { f64::from(first as u16) };
        let value = element(object, data)?;
        let bytes = value.to_bytes().ok()?;
        let pairs = || bytes.chunks_exact(2).map(|two| u16::from_le_bytes([two[0], two[1]]));
        // An 8-bit table may be packed one entry a byte; OW and US values are words already.
        let entries: Vec<u16> = match value.to_multi_int::<i64>() {
            _ if bits <= 8 && bytes.len() < 2 * count => {
                bytes.iter().map(|byte| u16::from(*byte)).collect()
            }
            Ok(words) if words.len() >= count && bytes.len() >= 2 * words.len() => {
                words.iter().map(|word| *word as u16).collect()
            }
            _ => pairs().collect(),
        };
        let entries: Vec<u16> = entries.into_iter().take(count).collect();
        (!entries.is_empty()).then_some(Self { first, bits: bits.clamp(1, 16) as u32, entries })
    }

    /// Values before the first mapped one take its entry, values after the last one that one's.
    fn entry(&self, stored: f64) -> u16 {
        let at = (stored - self.first).clamp(0.0, (self.entries.len() - 1) as f64) as usize;
        self.entries[at]
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

fn element(object: &InMemDicomObject, tag: Tag) -> Option<&dicom_object::mem::InMemElement> {
    object.element_opt(tag).ok().flatten()
}

fn items(object: &InMemDicomObject, tag: Tag) -> Option<&[InMemDicomObject]> {
    element(object, tag)?.items()
}

fn integer(object: &InMemDicomObject, tag: Tag) -> Option<i64> {
    element(object, tag)?.to_int().ok()
}

fn decimal(object: &InMemDicomObject, tag: Tag) -> Option<f64> {
    element(object, tag)?
        .to_multi_float64()
        .ok()?
        .first()
        .copied()
        .filter(|value| value.is_finite())
}

/// A code string of the standard's alphabet (PS3.5 6.2, CS); anything else is ignored.
pub(super) fn code(object: &InMemDicomObject, tag: Tag) -> Option<String> {
    let text = element(object, tag)?.to_str().ok()?;
    let text = text.trim_matches(['\0', ' ']);
    let plain = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || " _".contains(c);
    (!text.is_empty() && text.len() <= 16 && text.chars().all(plain)).then(|| text.to_owned())
}
