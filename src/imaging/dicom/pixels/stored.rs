//! The pixels of a DICOM file as they are stored: the same picture, and nothing beside it.
//!
//! Plain samples keep their stored bits and lose the others, where overlays may lie (PS3.5 8.1.2), and
//! everything after the last frame. Run-length encoded frames are encoded anew. JPEG frames are those
//! that were decoded, comments left out; JPEG 2000 and JPEG XL, whose codestreams can hold more than
//! can be looked for, and compressed samples with bits beside the stored ones become run-length
//! encoded. Each frame is one fragment, and the table of offsets is empty, which is always right.

use dicom_core::value::{DataSetSequence, Value};
use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;

use super::data::{Coding, PixelData, encoded};
use super::rle;
use super::table::Table;
use super::values::{Clean, Values};
use crate::imaging::dicom::attribute::items;
use crate::imaging::dicom::frame::{Modality, PALETTES, palette_tables};
use crate::imaging::dicom::guard::DicomFile;
use crate::imaging::dicom::header::Header;
use crate::imaging::dicom::transfer_syntax::EXPLICIT_LITTLE;
use crate::imaging::error::ImagingError;

const RUN_LENGTH: &str = "1.2.840.10008.1.2.5";

/// Pixels that may be stored.
pub(in crate::imaging::dicom) struct StoredPixels {
    /// The whole element, explicit VR little endian.
    element: Vec<u8>,
    transfer_syntax: String,
    bits_allocated: u32,
    /// The meaning of three samples.
    photometric: String,
    /// The stored values that occur, where tables are looked up by them.
    used: Option<Used>,
}

impl StoredPixels {
    /// The pixels of a file that was decoded once.
    pub(in crate::imaging::dicom) fn of(
        file: &DicomFile<'_>,
        header: &Header,
    ) -> Result<Self, ImagingError> {
        let mut stored = Self {
            element: Vec::new(),
            transfer_syntax: file.transfer_syntax.clone(),
            bits_allocated: header.bits_allocated,
            photometric: header.photometric.clone(),
            used: has_tables(file, header).then(Used::default),
        };
        match file.pixels.as_ref().ok_or(ImagingError::NoPixels)? {
            PixelData::Native { .. } => stored.plain(file, header)?,
            PixelData::Encapsulated { offsets, fragments } => {
                let coding = Coding::of(&file.transfer_syntax)?;
                match coding {
                    Coding::Plain => stored.plain(file, header)?,
                    Coding::RunLength | Coding::Jpeg2000 | Coding::JpegXl => {
                        stored.run_length(file, header)?;
                    }
                    Coding::Jpeg => {
                        let mut frames = Fragments::with_capacity(fragments);
                        let mut is_wide = false;
                        for frame in 0..header.frames {
                            let of = (coding, header.frames, frame);
                            let data = encoded(offsets, fragments, of)?;
                            let clean = Clean::of(coding, &data, header)?;
                            is_wide |= clean.facts.precision > header.bits_stored;
                            frames.push(&clean.data)?;
                        }
                        if is_wide && Self::holds_more(file, header)? {
                            drop(frames);
                            stored.run_length(file, header)?;
                        } else {
                            stored.element = frames.finish();
                            stored.look(file, header)?;
                        }
                    }
                }
            }
        }
        Ok(stored)
    }

    /// The whole element.
    pub(in crate::imaging::dicom) fn element(&self) -> &[u8] {
        &self.element
    }

    /// The transfer syntax that they are stored under.
    pub(in crate::imaging::dicom) fn transfer_syntax(&self) -> &str {
        &self.transfer_syntax
    }

    /// Puts what describes them into the object.
    pub(in crate::imaging::dicom) fn put_header(
        &self,
        object: &mut InMemDicomObject,
        header: &Header,
    ) {
        let mut put = |tag: Tag, number: u32| {
            let number = PrimitiveValue::from(number as u16);
            object.put(DataElement::new(tag, VR::US, number));
        };
        put(tags::SAMPLES_PER_PIXEL, header.samples);
        put(tags::ROWS, header.height);
        put(tags::COLUMNS, header.width);
        put(tags::BITS_ALLOCATED, self.bits_allocated);
        put(tags::BITS_STORED, header.bits_stored);
        put(tags::HIGH_BIT, header.bits_stored - 1);
        put(tags::PIXEL_REPRESENTATION, u32::from(header.signed));
        if header.samples > 1 {
            // Plain samples are written pixel by pixel.
            put(tags::PLANAR_CONFIGURATION, 0);
        }
        if header.frames > 1 {
            let frames = PrimitiveValue::from(header.frames.to_string());
            object.put(DataElement::new(tags::NUMBER_OF_FRAMES, VR::IS, frames));
        }
        let photometric = PrimitiveValue::from(self.photometric.as_str());
        object.put(DataElement::new(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, photometric));
    }

    /// A file that ends with them: the other elements come first.
    pub(in crate::imaging::dicom) fn after(mut self, others: &[u8]) -> Vec<u8> {
        self.element.splice(0..0, others.iter().copied());
        self.element
    }

    /// Plain samples: the stored bits, and no byte after the last frame.
    fn plain(&mut self, file: &DicomFile<'_>, header: &Header) -> Result<(), ImagingError> {
        EXPLICIT_LITTLE.clone_into(&mut self.transfer_syntax);
        let mut packed = Plain::with_room_for(header);
        for frame in 0..header.frames {
            let values = Values::of(file, header, frame)?;
            if let Some(subsampled) = values.subsampled(header) {
                packed.bytes.extend_from_slice(subsampled);
            } else {
                values.interleaved(header, |value| packed.push(value))?;
            }
            if let Some(used) = &mut self.used {
                values.stored(header)?.for_each(|value| used.add(value));
            }
        }
        self.element = packed.finish();
        Ok(())
    }

    /// Frames encoded anew, losing nothing, whatever they were encoded as.
    fn run_length(&mut self, file: &DicomFile<'_>, header: &Header) -> Result<(), ImagingError> {
        RUN_LENGTH.clone_into(&mut self.transfer_syntax);
        let mut frames = Fragments::default();
        for frame in 0..header.frames {
            let values = Values::of(file, header, frame)?;
            // As wide as the stored bits, so that they mean the same when they are read again.
            let bits = values.bits.max(header.bits_stored.next_multiple_of(8)).next_power_of_two();
            let width = bits as usize / 8;
            let samples = header.samples as usize;
            let shape = rle::Shape { pixels: header.pixels(), samples, width };
            let mut data = Vec::with_capacity(shape.pixels * samples * width);
            values.interleaved(header, |value| {
                data.extend_from_slice(value.to_le_bytes().get(..width).unwrap_or_default());
            })?;
            frames.push(&rle::encode(&data, shape))?;
            self.bits_allocated = bits;
            self.photometric.clone_from(&values.model);
            if let Some(used) = &mut self.used {
                values.stored(header)?.for_each(|value| used.add(value));
            }
        }
        self.element = frames.finish();
        Ok(())
    }

    fn holds_more(file: &DicomFile<'_>, header: &Header) -> Result<bool, ImagingError> {
        for frame in 0..header.frames {
            if Values::of(file, header, frame)?.holds_more_than(header) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Looks which values occur, if anybody needs to know.
    fn look(&mut self, file: &DicomFile<'_>, header: &Header) -> Result<(), ImagingError> {
        let Some(used) = &mut self.used else { return Ok(()) };
        for frame in 0..header.frames {
            Values::of(file, header, frame)?.stored(header)?.for_each(|value| used.add(value));
        }
        Ok(())
    }
}

/// Whether lookup tables of the file are kept.
fn has_tables(file: &InMemDicomObject, header: &Header) -> bool {
    let sequences = [tags::MODALITY_LUT_SEQUENCE, tags::VOILUT_SEQUENCE];
    header.samples == 1
        && (header.photometric == "PALETTE COLOR"
            || sequences.into_iter().any(|tag| items(file, tag).is_some()))
}

/// Puts the lookup tables that the file's pixels go through, as far as they do.
pub(in crate::imaging::dicom) fn put_tables(
    object: &mut InMemDicomObject,
    file: &InMemDicomObject,
    header: &Header,
    pixels: &StoredPixels,
) {
    let Some(used) = &pixels.used else { return };
    let stored = || used.values().map(|value| value as f64);
    if header.photometric == "PALETTE COLOR" {
        let Ok(tables) = palette_tables(file, header.signed) else { return };
        for (table, (descriptor, data, _)) in tables.iter().zip(PALETTES) {
            table.only_for(stored()).put(object, descriptor, data);
        }
        return;
    }
    let modality = Modality::of(file, header, 0);
    if let Modality::Table(table) = &modality {
        put_sequence(object, tags::MODALITY_LUT_SEQUENCE, vec![table.only_for(stored())]);
    }
    // Objects whose frames differ have no such sequence (PS3.3 A.32.8).
    if items(file, tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE).is_some() {
        return;
    }
    let meant = || stored().map(|value| modality.value(value));
    let tables: Vec<Table> = items(file, tags::VOILUT_SEQUENCE)
        .unwrap_or_default()
        .iter()
        .filter_map(|item| Table::read(item, tags::LUT_DESCRIPTOR, tags::LUT_DATA, header.signed))
        .map(|table| table.only_for(meant()))
        .collect();
    if !tables.is_empty() {
        put_sequence(object, tags::VOILUT_SEQUENCE, tables);
    }
}

fn put_sequence(object: &mut InMemDicomObject, tag: Tag, tables: Vec<Table>) {
    let item = |table: Table| {
        let mut item = InMemDicomObject::new_empty();
        table.put(&mut item, tags::LUT_DESCRIPTOR, tags::LUT_DATA);
        item
    };
    let items: Vec<InMemDicomObject> = tables.into_iter().map(item).collect();
    object.put(DataElement::new(tag, VR::SQ, Value::Sequence(DataSetSequence::from(items))));
}

/// The stored values that occur, as far as a table can tell them apart.
struct Used(Vec<bool>);

impl Used {
    /// A table starts at a signed or unsigned number of 16 bits and has at most 65536 entries.
    const LEAST: i64 = i16::MIN as i64;
    const MOST: i64 = 2 * u16::MAX as i64 + 1;

    fn add(&mut self, value: i64) {
        let at = value.clamp(Self::LEAST, Self::MOST) - Self::LEAST;
        if let Some(used) = usize::try_from(at).ok().and_then(|at| self.0.get_mut(at)) {
            *used = true;
        }
    }

    fn values(&self) -> impl Iterator<Item = i64> {
        (Self::LEAST..).zip(&self.0).filter(|(_, used)| **used).map(|(value, _)| value)
    }
}

impl Default for Used {
    fn default() -> Self {
        Self(vec![false; (Self::MOST - Self::LEAST + 1) as usize])
    }
}

/// Room for the other elements in front, so that nothing moves twice.
const OTHERS: usize = 64 << 10;

/// The element of plain samples as it is being written.
struct Plain {
    bytes: Vec<u8>,
    /// Bits of a sample.
    bits: u32,
    /// Bits that do not yet make up a byte, and how many.
    partial: (u8, u32),
}

impl Plain {
    const HEADER: usize = 12;

    fn with_room_for(header: &Header) -> Self {
        let samples = header.pixels() * header.samples as usize * header.frames as usize;
        let length = (samples * header.bits_allocated as usize).div_ceil(8);
        let mut bytes = Vec::with_capacity(length + Self::HEADER + OTHERS);
        let vr: &[u8] = if header.bits_allocated > 8 { b"OW" } else { b"OB" };
        bytes.extend([0xE0, 0x7F, 0x10, 0x00]);
        bytes.extend(vr);
        bytes.extend([0; 6]);
        Self { bytes, bits: header.bits_allocated, partial: (0, 0) }
    }

    fn push(&mut self, value: i64) {
        if self.bits == 1 {
            let (byte, count) = &mut self.partial;
            *byte |= (value as u8 & 1) << *count;
            *count += 1;
            if *count == 8 {
                self.bytes.push(*byte);
                self.partial = (0, 0);
            }
        } else {
            let width = self.bits as usize / 8;
            let bytes = value.to_le_bytes();
            self.bytes.extend_from_slice(bytes.get(..width).unwrap_or_default());
        }
    }

    fn finish(mut self) -> Vec<u8> {
        if self.partial.1 > 0 {
            self.bytes.push(self.partial.0);
        }
        if !self.bytes.len().is_multiple_of(2) {
            self.bytes.push(0);
        }
        let length = (self.bytes.len() - Self::HEADER) as u32;
        if let Some(place) = self.bytes.get_mut(8..Self::HEADER) {
            place.copy_from_slice(&length.to_le_bytes());
        }
        self.bytes
    }
}

/// The element of encapsulated frames as it is being written (PS3.5 A.4).
struct Fragments(Vec<u8>);

impl Default for Fragments {
    fn default() -> Self {
        // The element, and an empty table of offsets.
        Self(b"\xE0\x7F\x10\x00OB\0\0\xFF\xFF\xFF\xFF\xFE\xFF\x00\xE0\0\0\0\0".to_vec())
    }
}

impl Fragments {
    fn with_capacity(fragments: &[&[u8]]) -> Self {
        let length: usize = fragments.iter().map(|fragment| fragment.len() + 16).sum();
        let mut new = Self::default();
        new.0.reserve(length + OTHERS);
        new
    }

    fn push(&mut self, frame: &[u8]) -> Result<(), ImagingError> {
        let padded = frame.len().next_multiple_of(2);
        let length = u32::try_from(padded)
            .map_err(|_| ImagingError::PixelData("a frame is of 4 GiB or more".to_owned()))?;
        self.0.extend([0xFE, 0xFF, 0x00, 0xE0]);
        self.0.extend(length.to_le_bytes());
        self.0.extend_from_slice(frame);
        if padded > frame.len() {
            self.0.push(0);
        }
        Ok(())
    }

    fn finish(mut self) -> Vec<u8> {
        self.0.extend(b"\xFE\xFF\xDD\xE0\0\0\0\0");
        self.0
    }
}
