//! The sample values of one frame, however they are kept: native, run-length encoded, by a codec.
//!
//! Native and run-length encoded frames are read here and not by the toolkit: it knows neither bits
//! that run on from frame to frame, nor subsampled native colours, nor 32-bit samples.

use std::borrow::Cow;

use dicom_core::value::{PixelFragmentSequence, Value};
use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::mem::InMemElement;
use dicom_object::{DefaultDicomObject, FileMetaTableBuilder, InMemDicomObject};
use dicom_pixeldata::PixelDecoder;

use super::ImagingError;
use super::deidentify::known_colour_model;
use super::dicom::{Header, element};
use super::rle;
use super::transfer_syntax::not_decoded;
use super::walk::EXPLICIT_BIG;

const RLE: &str = "1.2.840.10008.1.2.5";
/// The start of the UIDs of JPEG 2000, and of its high-throughput kind.
const JPEG_2000: [&str; 2] = ["1.2.840.10008.1.2.4.9", "1.2.840.10008.1.2.4.20"];
/// The marker that JPEG data start with.
const JPEG_START: [u8; 2] = [0xFF, 0xD8];
/// APP14 as Adobe defines it: the components are not transformed.
const NO_TRANSFORM: &[u8] = b"\xFF\xEE\x00\x0EAdobe\x00\x64\x00\x00\x00\x00\x00";

/// The samples of one frame, little endian.
pub(super) struct Values<'a> {
    data: Cow<'a, [u8]>,
    /// Bits that a sample takes: 8, 16 or 32.
    bits: u32,
    /// What three samples mean.
    model: String,
    /// Each component by itself.
    planar: bool,
}

impl<'a> Values<'a> {
    /// Reads a frame.
    pub(super) fn of(
        object: &'a DefaultDicomObject,
        header: &Header,
        frame: u32,
    ) -> Result<Self, ImagingError> {
        let pixel_data = element(object, tags::PIXEL_DATA).ok_or(ImagingError::NoPixels)?;
        let syntax = object.meta().transfer_syntax().trim_end_matches(['\0', ' ']);
        match pixel_data.fragments() {
            None => Self::native(pixel_data, header, frame, syntax == EXPLICIT_BIG),
            Some(fragments) if syntax == RLE => Self::run_length(fragments, header, frame),
            Some(fragments) => Self::by_codec(object, fragments, header, frame, syntax),
        }
    }

    fn native(
        pixel_data: &'a InMemElement,
        header: &Header,
        frame: u32,
        big: bool,
    ) -> Result<Self, ImagingError> {
        let bytes = pixel_data.to_bytes().map_err(|_| unreadable())?;
        let (pixels, frame) = (header.pixels(), frame as usize);
        let model = header.photometric.clone();
        if header.bits_allocated == 1 {
            // PS3.5 8.1.1: bits are packed from the least significant on, across frames.
            let bits = frame * pixels..(frame + 1) * pixels;
            enough(bytes.len(), bits.end.div_ceil(8))?;
            let data = bits.map(|bit| bytes[bit / 8] >> (bit % 8) & 1).collect();
            return Ok(Self { data, bits: 8, model, planar: false });
        }
        let width = header.bits_allocated as usize / 8;
        let whole = pixels * header.samples as usize * width;
        let subsampled = model == "YBR_FULL_422" && width == 1 && header.samples == 3;
        let length = if subsampled && bytes.len() < whole * header.frames as usize {
            pixels * 2
        } else {
            whole
        };
        let (start, end) = (frame * length, (frame + 1) * length);
        enough(bytes.len(), end)?;
        let mut data = match bytes {
            Cow::Borrowed(bytes) => Cow::Borrowed(&bytes[start..end]),
            Cow::Owned(bytes) => Cow::Owned(bytes[start..end].to_vec()),
        };
        match pixel_data.vr() {
            VR::OB | VR::UN if big && width > 1 => {
                data.to_mut().chunks_exact_mut(width).for_each(<[u8]>::reverse);
            }
            // Words have been put in order, but not the two of a sample.
            VR::OW if big && width == 4 => {
                data.to_mut().chunks_exact_mut(4).for_each(|four| four.rotate_left(2));
            }
            _ => {}
        }
        Ok(Self { data, bits: header.bits_allocated, model, planar: header.planar })
    }

    fn run_length(
        fragments: &[Vec<u8>],
        header: &Header,
        frame: u32,
    ) -> Result<Self, ImagingError> {
        if header.bits_allocated < 8 {
            return Err(ImagingError::Unsupported("run-length encoded bits".to_owned()));
        }
        let shape = rle::Shape {
            pixels: header.pixels(),
            samples: header.samples as usize,
            width: header.bits_allocated as usize / 8,
        };
        let encoded = encoded(fragments, header, frame).ok_or_else(|| {
            let (found, frames) = (fragments.len(), header.frames);
            ImagingError::PixelData(format!("it has {found} fragments for {frames} frames"))
        })?;
        let data = Cow::Owned(rle::decode(&encoded, shape)?);
        let model = header.photometric.clone();
        Ok(Self { data, bits: header.bits_allocated, model, planar: false })
    }

    fn by_codec(
        object: &DefaultDicomObject,
        fragments: &[Vec<u8>],
        header: &Header,
        frame: u32,
        syntax: &str,
    ) -> Result<Self, ImagingError> {
        let decoded = match mended(fragments, header, frame, syntax)? {
            Some(mended) => mended.decode_pixel_data_frame(0).map(|decoded| decoded.to_owned()),
            None => object.decode_pixel_data_frame(frame),
        };
        let decoded = decoded.map_err(|error| {
            // Only looked into, never passed on.
            let text = error.to_string();
            let precision = fragments.first().and_then(|first| lossy_jpeg_precision(first));
            match precision {
                Some(bits) if bits != 8 => ImagingError::Unsupported(format!("{bits}-bit JPEG")),
                _ if text.contains("nsupported") && text.contains("ransfer") => not_decoded(syntax),
                _ => ImagingError::PixelData("the codec refuses it; it is damaged".to_owned()),
            }
        })?;
        // The toolkit calls all colours RGB; a wavelet codec leaves YBR_FULL as it is.
        let kept = header.photometric == "YBR_FULL"
            && JPEG_2000.iter().any(|start| syntax.starts_with(start));
        let model = if kept {
            header.photometric.clone()
        } else {
            decoded.photometric_interpretation().to_string()
        };
        let bits = u32::from(decoded.bits_allocated());
        Ok(Self { data: Cow::Owned(decoded.data().to_vec()), bits, model, planar: false })
    }

    /// Stored values (PS3.5 8.1.1): the low `bits stored` bits, sign extended where signed.
    pub(super) fn stored(&self, header: &Header) -> Result<Vec<f64>, ImagingError> {
        let kept = header.bits_stored.min(self.bits);
        let value = |raw: u32| -> f64 {
            let raw = if kept < 32 { raw & ((1_u32 << kept) - 1) } else { raw };
            if header.signed {
                let shift = 32 - kept;
                f64::from(((raw << shift) as i32) >> shift)
            } else {
                f64::from(raw)
            }
        };
        Ok(self.raw(header.pixels())?.map(value).collect())
    }

    /// Colour pixels as interleaved 8-bit RGB.
    pub(super) fn colour(&self, header: &Header) -> Result<Vec<u8>, ImagingError> {
        let pixels = header.pixels();
        let subsampled = self.data.len() < pixels * 3 && self.data.len() >= pixels * 2;
        if self.model == "YBR_FULL_422" && self.bits == 8 && subsampled {
            // PS3.3 C.7.6.3.1.2: Y1 Y2 Cb Cr for each pair of pixels.
            let rgb = self.data.chunks_exact(4).flat_map(|four| {
                let pair = [four[0], four[1]];
                pair.map(|y| ybr_to_rgb(y, four[2], four[3])).concat()
            });
            return Ok(rgb.take(pixels * 3).collect());
        }
        // The top eight of the bits stored.
        let shift = header.bits_stored.min(self.bits).saturating_sub(8);
        let narrow: Vec<u8> = self.raw(pixels * 3)?.map(|value| (value >> shift) as u8).collect();
        let interleaved: Vec<u8> = if self.planar {
            (0..pixels).flat_map(|at| [0, 1, 2].map(|plane| narrow[plane * pixels + at])).collect()
        } else {
            narrow
        };
        match self.model.as_str() {
            "RGB" => Ok(interleaved),
            "YBR_FULL" | "YBR_FULL_422" => Ok(interleaved
                .chunks_exact(3)
                .flat_map(|three| ybr_to_rgb(three[0], three[1], three[2]))
                .collect()),
            // The codec has undone these transforms already.
            "YBR_ICT" | "YBR_RCT" => Ok(interleaved),
            other => Err(ImagingError::Unsupported(match known_colour_model(other) {
                Some(known) => format!("photometric interpretation {known}"),
                None => "an unknown photometric interpretation".to_owned(),
            })),
        }
    }

    /// The first `count` samples.
    fn raw(&self, count: usize) -> Result<impl Iterator<Item = u32>, ImagingError> {
        let width = self.bits.div_ceil(8) as usize;
        enough(self.data.len(), count * width)?;
        Ok(self.data[..count * width]
            .chunks_exact(width)
            .map(|bytes| bytes.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte))))
    }
}

fn unreadable() -> ImagingError {
    ImagingError::PixelData("it cannot be read".to_owned())
}

fn enough(found: usize, needed: usize) -> Result<(), ImagingError> {
    if found >= needed {
        return Ok(());
    }
    let what = format!("it has {found} bytes where {needed} are needed");
    Err(ImagingError::PixelData(what))
}

/// The fragments of a frame, if they can be told from those of others.
fn encoded<'a>(fragments: &'a [Vec<u8>], header: &Header, frame: u32) -> Option<Cow<'a, [u8]>> {
    if fragments.len() == header.frames as usize {
        fragments.get(frame as usize).map(|fragment| Cow::Borrowed(fragment.as_slice()))
    } else if header.frames == 1 {
        Some(Cow::Owned(fragments.concat()))
    } else {
        None
    }
}

/// An object of one frame for which the codec does right, where it would not for the frame as it is:
/// it reads no samples of one bit, and takes JPEG colours for YCbCr unless the JPEG data says not.
fn mended(
    fragments: &[Vec<u8>],
    header: &Header,
    frame: u32,
    syntax: &str,
) -> Result<Option<DefaultDicomObject>, ImagingError> {
    let Some(encoded) = encoded(fragments, header, frame) else { return Ok(None) };
    let silent = header.samples == 3 && header.photometric == "RGB" && is_silent_jpeg(&encoded);
    let frame = match (silent, header.bits_allocated) {
        (true, _) => [&encoded[..2], NO_TRANSFORM, &encoded[2..]].concat(),
        (false, 1) => encoded.into_owned(),
        (false, _) => return Ok(None),
    };
    let mut object = InMemDicomObject::new_empty();
    let mut put = |tag, number: u32| {
        let number = PrimitiveValue::from(number as u16);
        object.put(DataElement::new(tag, VR::US, number));
    };
    put(tags::ROWS, header.height);
    put(tags::COLUMNS, header.width);
    put(tags::SAMPLES_PER_PIXEL, header.samples);
    put(tags::PLANAR_CONFIGURATION, 0);
    put(tags::BITS_ALLOCATED, header.bits_allocated.max(8));
    put(tags::BITS_STORED, header.bits_stored.max(8));
    put(tags::HIGH_BIT, header.bits_stored.max(8) - 1);
    put(tags::PIXEL_REPRESENTATION, u32::from(header.signed));
    let photometric = PrimitiveValue::from(header.photometric.as_str());
    object.put(DataElement::new(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, photometric));
    let fragments = PixelFragmentSequence::new(Vec::<u32>::new(), vec![frame]);
    object.put(DataElement::new(tags::PIXEL_DATA, VR::OB, Value::PixelSequence(fragments)));
    let meta = FileMetaTableBuilder::new()
        .transfer_syntax(syntax)
        .media_storage_sop_class_uid(uids::SECONDARY_CAPTURE_IMAGE_STORAGE)
        .media_storage_sop_instance_uid("2.25.1");
    let object = object.with_meta(meta).map_err(|_| unreadable())?;
    Ok(Some(object))
}

/// Whether these are JPEG data that say nothing of their colours: neither JFIF nor Adobe's marker.
fn is_silent_jpeg(bytes: &[u8]) -> bool {
    bytes.starts_with(&JPEG_START)
        && segments(bytes).all(|(marker, _)| !matches!(marker, 0xE0 | 0xEE))
}

/// Bits of a sample of JPEG data that lose something (ITU-T T.81 B.2.2).
fn lossy_jpeg_precision(bytes: &[u8]) -> Option<u8> {
    let frame = segments(bytes).find(|(marker, _)| matches!(marker, 0xC0..=0xC2))?;
    frame.1.first().copied()
}

/// The marker segments of JPEG data up to the first scan: marker and content (ITU-T T.81 B.1.1).
fn segments(bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    const START_OF_SCAN: u8 = 0xDA;
    let mut rest = bytes.strip_prefix(&JPEG_START).unwrap_or_default();
    std::iter::from_fn(move || {
        let [0xFF, marker, high, low, ..] = rest else { return None };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let content = rest.get(4..2 + length)?;
        rest = &rest[2 + length..];
        (*marker != START_OF_SCAN).then_some((*marker, content))
    })
}

/// PS3.3 C.7.6.3.1.2, YBR_FULL.
fn ybr_to_rgb(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    let (y, cb, cr) = (f32::from(y), f32::from(cb) - 128.0, f32::from(cr) - 128.0);
    [y + 1.402 * cr, y - 0.344_136 * cb - 0.714_136 * cr, y + 1.772 * cb]
        .map(|value| value.round().clamp(0.0, 255.0) as u8)
}

#[cfg(test)]
mod tests {
    use super::{is_silent_jpeg, lossy_jpeg_precision};

    const FRAME: &[u8] = b"\xFF\xC1\x00\x05\x0C\x00\x01";
    const JFIF: &[u8] = b"\xFF\xE0\x00\x07JFIF\x00";
    const SCAN: &[u8] = b"\xFF\xDA\x00\x03\x01\xFF\xE0";

    #[test]
    fn jpeg_data_are_silent_without_a_marker_that_tells_of_colours() {
        let jpeg = |parts: &[&[u8]]| [b"\xFF\xD8", parts.concat().as_slice()].concat();

        assert!(is_silent_jpeg(&jpeg(&[FRAME, SCAN])));
        assert!(!is_silent_jpeg(&jpeg(&[JFIF, FRAME, SCAN])));
        assert!(!is_silent_jpeg(b"\xFF\x4F\xFF\x51 JPEG 2000"));
        assert_eq!(lossy_jpeg_precision(&jpeg(&[JFIF, FRAME, SCAN])), Some(12));
        assert_eq!(lossy_jpeg_precision(&jpeg(&[b"\xFF\xC1\xFF\xFF\x0C"])), None);
    }
}
