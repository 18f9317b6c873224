//! Lookup tables of DICOM objects: modality tables and palettes, listed or told by segments.

use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_object::InMemDicomObject;

use crate::imaging::dicom::attribute::element;

/// A lookup table: descriptor and entries (PS3.3 C.11.1.1).
pub(in crate::imaging::dicom) struct Table {
    first: f64,
    /// Bits of an entry.
    pub(in crate::imaging::dicom) bits: u32,
    entries: Vec<u16>,
}

impl Table {
    /// Reads a table that lists its entries.
    pub(in crate::imaging::dicom) fn read(
        object: &InMemDicomObject,
        descriptor: Tag,
        data: Tag,
        signed: bool,
    ) -> Option<Self> {
        let Descriptor { count, first, bits } = Descriptor::read(object, descriptor, signed)?;
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
        (!entries.is_empty()).then_some(Self { first, bits, entries })
    }

    /// Reads a table of 16-bit entries that is told by segments (PS3.3 C.7.9.2): runs of entries
    /// and straight lines. Segments that refer to others are not read.
    pub(in crate::imaging::dicom) fn read_segmented(
        object: &InMemDicomObject,
        descriptor: Tag,
        data: Tag,
        signed: bool,
    ) -> Option<Self> {
        let Descriptor { count, first, bits } = Descriptor::read(object, descriptor, signed)?;
        let bytes = element(object, data)?.to_bytes().ok()?;
        let mut words = bytes.chunks_exact(2).map(|two| u16::from_le_bytes([two[0], two[1]]));
        let mut entries: Vec<u16> = Vec::with_capacity(count);
        while entries.len() < count {
            let (opcode, length) = (words.next()?, words.next()?);
            match opcode {
                0 => {
                    for _ in 0..length {
                        entries.push(words.next()?);
                    }
                }
                1 => {
                    let (from, to) = (f64::from(*entries.last()?), f64::from(words.next()?));
                    let step = (to - from) / f64::from(length);
                    let line = (1..=length).map(|at| (from + step * f64::from(at)).round() as u16);
                    entries.extend(line);
                }
                _ => return None,
            }
        }
        entries.truncate(count);
        Some(Self { first, bits, entries })
    }

    /// The table without what no pixel refers to: entries that none of the `values` takes are zero, and
    /// the data end with the last entry. It gives the same entry for each of these values.
    pub(super) fn only_for(&self, values: impl Iterator<Item = f64>) -> Self {
        let mut entries = vec![0; self.entries.len()];
        for value in values {
            let at = self.place(value);
            if let (Some(kept), Some(entry)) = (entries.get_mut(at), self.entries.get(at)) {
                *kept = *entry;
            }
        }
        Self { first: self.first, bits: self.bits, entries }
    }

    /// Writes the table as words.
    pub(super) fn put(&self, object: &mut InMemDicomObject, descriptor: Tag, data: Tag) {
        // 65536 entries are told as none (PS3.3 C.11.1.1.1).
        let told = [self.entries.len() as u16, self.first as i64 as u16, self.bits as u16];
        object.put(DataElement::new(
            descriptor,
            VR::US,
            PrimitiveValue::U16(told.as_slice().into()),
        ));
        let entries = PrimitiveValue::U16(self.entries.as_slice().into());
        object.put(DataElement::new(data, VR::OW, entries));
    }

    fn place(&self, stored: f64) -> usize {
        (stored - self.first).clamp(0.0, (self.entries.len() - 1) as f64) as usize
    }

    /// Values before the first mapped one take its entry, values after the last one that one's.
    pub(in crate::imaging::dicom) fn entry(&self, stored: f64) -> u16 {
        self.entries.get(self.place(stored)).copied().unwrap_or_default()
    }
}

/// The descriptor of a table: how many entries, the value that the first one is for, and the bits of
/// an entry (PS3.3 C.11.1.1.1).
struct Descriptor {
    count: usize,
    first: f64,
    bits: u32,
}

impl Descriptor {
    fn read(object: &InMemDicomObject, tag: Tag, signed: bool) -> Option<Self> {
        let parts: Vec<i64> = element(object, tag)?.to_multi_int().ok()?;
        let [count, first, bits] = parts.try_into().ok()?;
        let count = if count & 0xFFFF == 0 { 65536 } else { (count & 0xFFFF) as usize };
        let first = if signed { f64::from(first as i16) } else { f64::from(first as u16) };
        Some(Self { count, first, bits: bits.clamp(1, 16) as u32 })
    }
}

#[cfg(test)]
mod tests {
    use dicom_core::{DataElement, PrimitiveValue, VR};
    use dicom_dictionary_std::tags;
    use dicom_object::InMemDicomObject;

    use super::Table;

    #[test]
    fn segments_are_runs_and_straight_lines() {
        let (descriptor, data) = (
            tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
            tags::SEGMENTED_RED_PALETTE_COLOR_LOOKUP_TABLE_DATA,
        );
        let mut object = InMemDicomObject::new_empty();
        let words = |words: &[u16]| PrimitiveValue::U16(words.into());
        object.put(DataElement::new(descriptor, VR::US, words(&[7, 10, 16])));
        object.put(DataElement::new(data, VR::OW, words(&[0, 2, 5, 100, 1, 4, 300, 0, 1, 9])));

        let table = Table::read_segmented(&object, descriptor, data, false).expect("a table");

        let entries: Vec<u16> = (9..18).map(|value| table.entry(f64::from(value))).collect();
        assert_eq!(entries, [5, 5, 100, 150, 200, 250, 300, 9, 9]);
    }
}
