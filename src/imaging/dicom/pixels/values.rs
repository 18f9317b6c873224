//! The sample values of one frame, however they are kept: plain, run-length encoded, by a codec.
//!
//! Plain and run-length encoded frames are read here and not by the toolkit: it knows neither bits
//! that run on from frame to frame, nor subsampled native colours, nor 32-bit samples. Its codecs get
//! one frame at a time, in an object made here of what the data and the header agree on.

use std::borrow::Cow;

use dicom_core::value::{PixelFragmentSequence, Value};
use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::{DefaultDicomObject, FileMetaTableBuilder, InMemDicomObject};
use dicom_pixeldata::PixelDecoder;

use super::data::{Coding, PixelData, encoded, enough, native};
use super::rle;
use crate::imaging::codestream::{Facts, jpeg, jpeg2000, jpegxl};
use crate::imaging::dicom::guard::DicomFile;
use crate::imaging::dicom::header::Header;
use crate::imaging::dicom::kept::known_colour_model;
use crate::imaging::error::ImagingError;

/// The samples of one frame, little endian.
pub(in crate::imaging::dicom) struct Values<'a> {
    data: Cow<'a, [u8]>,
    /// Bits that a sample takes: 8, 16 or 32.
    pub(super) bits: u32,
    /// Bits of them that the coding gives.
    depth: u32,
    /// The meaning of three samples.
    pub(super) model: String,
    /// Each component by itself.
    planar: bool,
}

impl<'a> Values<'a> {
    /// Reads a frame.
    pub(in crate::imaging::dicom) fn of(
        file: &'a DicomFile<'_>,
        header: &Header,
        frame: u32,
    ) -> Result<Self, ImagingError> {
        let model = header.photometric.clone();
        let plain = |data, planar| {
            let bits = header.bits_allocated.max(8);
            Self { data, bits, depth: bits, model, planar }
        };
        match file.pixels.as_ref().ok_or(ImagingError::NoPixels)? {
            PixelData::Native { bytes, words, big } => {
                Ok(plain(native((bytes, *words, *big), header, frame)?, header.planar))
            }
            PixelData::Encapsulated { offsets, fragments } => {
                let coding = Coding::of(&file.transfer_syntax)?;
                let data = encoded(offsets, fragments, (coding, header.frames, frame))?;
                match coding {
                    Coding::Plain => {
                        let data = native((&data, false, false), header, 0)?.into_owned();
                        Ok(plain(Cow::Owned(data), header.planar))
                    }
                    Coding::RunLength => {
                        Ok(plain(Cow::Owned(rle::decode(&data, run_length_shape(header)?)?), false))
                    }
                    Coding::Jpeg | Coding::Jpeg2000 | Coding::JpegXl => {
                        let clean = Clean::of(coding, &data, header)?;
                        Self::by_codec(clean, coding, header, &file.transfer_syntax)
                    }
                }
            }
        }
    }

    fn by_codec(
        Clean { data, facts }: Clean,
        coding: Coding,
        header: &Header,
        syntax: &str,
    ) -> Result<Self, ImagingError> {
        let data = match coding {
            // The codec takes colours for YCbCr unless the data say not.
            Coding::Jpeg if header.photometric == "RGB" && jpeg::is_silent(&data) => [
                data.get(..2).unwrap_or_default(),
                &jpeg::adobe(0),
                data.get(2..).unwrap_or_default(),
            ]
            .concat(),
            Coding::Plain
            | Coding::RunLength
            | Coding::Jpeg
            | Coding::Jpeg2000
            | Coding::JpegXl => data,
        };
        let bits = if facts.precision <= 8 { 8 } else { 16 };
        let object = object_of_one_frame(data, header, bits, syntax)?;
        let decoded = object
            .decode_pixel_data_frame(0)
            // The codec's messages may quote the file.
            .map_err(|_| refused("the codec refuses it; it is damaged"))?;
        // The toolkit calls all colours RGB; a wavelet codec leaves YBR_FULL as it is.
        let model = if header.photometric == "YBR_FULL" && coding == Coding::Jpeg2000 {
            header.photometric.clone()
        } else {
            decoded.photometric_interpretation().to_string()
        };
        let mut data = decoded.data().to_vec();
        if coding == Coding::JpegXl {
            undo_scaling(&mut data, bits, facts.precision);
        }
        Ok(Self { data: Cow::Owned(data), bits, depth: facts.precision, model, planar: false })
    }

    /// Stored values (PS3.5 8.1.1), sign extended where signed.
    pub(in crate::imaging::dicom) fn stored(
        &self,
        header: &Header,
    ) -> Result<impl Iterator<Item = i64>, ImagingError> {
        let place = Place::of(header, self.depth);
        Ok(self.raw(header.pixels())?.map(move |raw| place.value(raw)))
    }

    /// Hands on the samples of all components as they are stored, pixel by pixel.
    pub(super) fn interleaved(
        &self,
        header: &Header,
        mut each: impl FnMut(i64),
    ) -> Result<(), ImagingError> {
        let (place, pixels) = (Place::of(header, self.depth), header.pixels());
        let samples = header.samples as usize;
        let count = pixels * samples;
        if self.planar && samples > 1 {
            enough(self.data.len(), count * self.width())?;
            let planes = (0..count).map(|at| at % samples * pixels + at / samples);
            planes.for_each(|at| each(place.value(self.sample(at))));
        } else {
            self.raw(count)?.for_each(|raw| each(place.value(raw)));
        }
        Ok(())
    }

    /// Whether samples have bits beside those that are stored, which are no part of the picture: in
    /// older files overlays (PS3.5 8.1.2). Copies of the sign are none.
    pub(super) fn holds_more_than(&self, header: &Header) -> bool {
        let place = Place::of(header, self.depth);
        let mask = if self.bits < 32 { (1_u32 << self.bits) - 1 } else { u32::MAX };
        let is_more = |raw: u32| {
            let value = place.value(raw);
            let plain = value as u32 & mask;
            let unextended = plain & place.mask();
            raw != plain && raw != unextended
        };
        self.data.chunks_exact(self.width()).any(|bytes| is_more(number(bytes)))
    }

    /// The samples as they are, where two pixels share theirs.
    pub(super) fn subsampled(&self, header: &Header) -> Option<&[u8]> {
        let whole = header.pixels() * header.samples as usize * self.width();
        (self.data.len() < whole).then_some(&*self.data)
    }

    /// Colour pixels as interleaved 8-bit RGB.
    pub(in crate::imaging::dicom) fn colour(
        &self,
        header: &Header,
    ) -> Result<Vec<u8>, ImagingError> {
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
        let shift = header.bits_stored.min(self.depth).saturating_sub(8);
        let mut colours = Vec::with_capacity(pixels * 3);
        self.interleaved(header, |value| colours.push((value >> shift) as u8))?;
        match self.model.as_str() {
            // The codec has undone its own transforms already.
            "RGB" | "YBR_ICT" | "YBR_RCT" => {}
            "YBR_FULL" | "YBR_FULL_422" => {
                for three in colours.chunks_exact_mut(3) {
                    three.copy_from_slice(&ybr_to_rgb(three[0], three[1], three[2]));
                }
            }
            other => {
                return Err(ImagingError::Unsupported(match known_colour_model(other) {
                    Some(known) => format!("photometric interpretation {known}"),
                    None => "an unknown photometric interpretation".to_owned(),
                }));
            }
        }
        Ok(colours)
    }

    /// Bytes of a sample.
    fn width(&self) -> usize {
        self.bits.div_ceil(8) as usize
    }

    fn sample(&self, at: usize) -> u32 {
        let width = self.width();
        number(self.data.get(at * width..(at + 1) * width).unwrap_or_default())
    }

    /// The first `count` samples.
    fn raw(&self, count: usize) -> Result<impl Iterator<Item = u32>, ImagingError> {
        let width = self.width();
        enough(self.data.len(), count * width)?;
        let data = self.data.get(..count * width).unwrap_or_default();
        Ok(data.chunks_exact(width).map(number))
    }
}

fn refused(why: &str) -> ImagingError {
    ImagingError::PixelData(why.to_owned())
}

fn number(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte))
}

/// The place where the stored bits of a sample lie (PS3.5 8.1.1).
#[derive(Debug, Clone, Copy)]
struct Place {
    kept: u32,
    shift: u32,
    signed: bool,
}

impl Place {
    fn of(header: &Header, depth: u32) -> Self {
        let kept = header.bits_stored.min(depth);
        // Older writers put the stored bits at the top, and a codec may have taken them down.
        let shift = if header.shift + kept <= depth { header.shift } else { 0 };
        Self { kept, shift, signed: header.signed }
    }

    fn mask(self) -> u32 {
        if self.kept < 32 { (1 << self.kept) - 1 } else { u32::MAX }
    }

    fn value(self, raw: u32) -> i64 {
        let raw = raw >> self.shift & self.mask();
        if self.signed {
            let above = 32 - self.kept;
            i64::from(((raw << above) as i32) >> above)
        } else {
            i64::from(raw)
        }
    }
}

/// The shape that a run-length encoded frame must decode to.
pub(super) fn run_length_shape(header: &Header) -> Result<rle::Shape, ImagingError> {
    if header.bits_allocated < 8 {
        return Err(ImagingError::Unsupported("run-length encoded bits".to_owned()));
    }
    Ok(rle::Shape {
        pixels: header.pixels(),
        samples: header.samples as usize,
        width: header.bits_allocated as usize / 8,
    })
}

/// Compressed data that agree with the header, without what is no part of the picture.
pub(super) struct Clean {
    pub(super) data: Vec<u8>,
    pub(super) facts: Facts,
}

impl Clean {
    /// Reads the data's own header first: nothing is decoded that does not agree.
    pub(super) fn of(coding: Coding, data: &[u8], header: &Header) -> Result<Self, ImagingError> {
        match coding {
            Coding::Plain | Coding::RunLength => Err(refused("it is not compressed by a codec")),
            Coding::Jpeg => {
                let facts = jpeg::facts(data).map_err(refused)?;
                facts.agree_with(header)?;
                let data = jpeg::clean(data).map_err(refused)?.bytes;
                Ok(Self { data, facts })
            }
            Coding::Jpeg2000 => {
                let facts = jpeg2000::facts(data).map_err(refused)?;
                facts.agree_with(header)?;
                let data = jpeg2000::clean(data).map_err(refused)?;
                Ok(Self { data, facts })
            }
            Coding::JpegXl => {
                let codestream = jpegxl::codestream(data).map_err(refused)?.into_owned();
                let facts = jpegxl::facts(&codestream).map_err(refused)?;
                facts.agree_with(header)?;
                Ok(Self { data: codestream, facts })
            }
        }
    }
}

/// An object of one frame for the toolkit's codec.
fn object_of_one_frame(
    frame: Vec<u8>,
    header: &Header,
    bits: u32,
    syntax: &str,
) -> Result<DefaultDicomObject, ImagingError> {
    let mut object = InMemDicomObject::new_empty();
    let mut put = |tag, number: u32| {
        let number = PrimitiveValue::from(number as u16);
        object.put(DataElement::new(tag, VR::US, number));
    };
    put(tags::ROWS, header.height);
    put(tags::COLUMNS, header.width);
    put(tags::SAMPLES_PER_PIXEL, header.samples);
    put(tags::PLANAR_CONFIGURATION, 0);
    put(tags::BITS_ALLOCATED, bits);
    put(tags::BITS_STORED, bits);
    put(tags::HIGH_BIT, bits - 1);
    put(tags::PIXEL_REPRESENTATION, u32::from(header.signed));
    let photometric = PrimitiveValue::from(header.photometric.as_str());
    object.put(DataElement::new(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, photometric));
    let fragments = PixelFragmentSequence::new(Vec::<u32>::new(), vec![frame]);
    object.put(DataElement::new(tags::PIXEL_DATA, VR::OB, Value::PixelSequence(fragments)));
    let meta = FileMetaTableBuilder::new()
        .transfer_syntax(syntax)
        .media_storage_sop_class_uid(uids::SECONDARY_CAPTURE_IMAGE_STORAGE)
        .media_storage_sop_instance_uid("2.25.1");
    object.with_meta(meta).map_err(|_| refused("it cannot be read"))
}

/// The JPEG XL decoder stretches samples of any precision over 8 or 16 bits; this undoes it.
fn undo_scaling(data: &mut [u8], bits: u32, precision: u32) {
    if precision == bits || precision > 16 {
        return;
    }
    let (from, to) = (f64::from((1_u32 << bits) - 1), f64::from((1_u32 << precision) - 1));
    for bytes in data.chunks_exact_mut(bits as usize / 8) {
        let value = (f64::from(number(bytes)) * to / from).round() as u32;
        let width = bytes.len();
        bytes.copy_from_slice(value.to_le_bytes().get(..width).unwrap_or_default());
    }
}

/// PS3.3 C.7.6.3.1.2, YBR_FULL.
fn ybr_to_rgb(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    let (y, cb, cr) = (f32::from(y), f32::from(cb) - 128.0, f32::from(cr) - 128.0);
    [y + 1.402 * cr, y - 0.344_136 * cb - 0.714_136 * cr, y + 1.772 * cb]
        .map(|value| value.round().clamp(0.0, 255.0) as u8)
}
