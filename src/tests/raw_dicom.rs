//! DICOM files written byte by byte, so that any part of them can be wrong.

/// The way in which elements are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    Explicit,
    Implicit,
    Big,
}

impl Coding {
    pub(crate) const ALL: [Self; 3] = [Self::Explicit, Self::Implicit, Self::Big];

    pub(crate) fn syntax(self) -> &'static str {
        match self {
            Self::Explicit => "1.2.840.10008.1.2.1",
            Self::Implicit => "1.2.840.10008.1.2",
            Self::Big => "1.2.840.10008.1.2.2",
        }
    }

    fn short(self, number: u16) -> [u8; 2] {
        if self == Self::Big { number.to_be_bytes() } else { number.to_le_bytes() }
    }

    fn long(self, number: u32) -> [u8; 4] {
        if self == Self::Big { number.to_be_bytes() } else { number.to_le_bytes() }
    }

    /// An element whose value is these bytes, and whose length says what it is told to.
    pub(crate) fn element(self, tag: (u16, u16), vr: &str, length: u32, value: &[u8]) -> Vec<u8> {
        let mut bytes = [self.short(tag.0), self.short(tag.1)].concat();
        let long = ["OB", "OW", "OF", "OD", "OL", "OV", "SQ", "UN", "UT", "UC", "UR", "SV", "UV"];
        if self == Self::Implicit || tag.0 == 0xFFFE {
            bytes.extend(self.long(length));
        } else if long.contains(&vr) {
            bytes.extend(vr.as_bytes());
            bytes.extend([0, 0]);
            bytes.extend(self.long(length));
        } else {
            bytes.extend(vr.as_bytes());
            bytes.extend(self.short(length as u16));
        }
        bytes.extend(value);
        bytes
    }

    /// A text, padded to an even length.
    pub(crate) fn text(self, tag: (u16, u16), vr: &str, text: &str) -> Vec<u8> {
        let padded =
            if text.len().is_multiple_of(2) { text.to_owned() } else { format!("{text} ") };
        self.element(tag, vr, padded.len() as u32, padded.as_bytes())
    }

    /// An unsigned number of 16 bits.
    pub(crate) fn number(self, tag: (u16, u16), number: u16) -> Vec<u8> {
        self.element(tag, "US", 2, &self.short(number))
    }

    pub(crate) fn words(self, tag: (u16, u16), vr: &str, words: &[u16]) -> Vec<u8> {
        let bytes: Vec<u8> = words.iter().flat_map(|word| self.short(*word)).collect();
        self.element(tag, vr, bytes.len() as u32, &bytes)
    }
}

/// A file of this data set, whose meta information holds nothing but its transfer syntax.
pub(crate) fn file(syntax: &str, data_set: &[u8]) -> Vec<u8> {
    let meta =
        Coding::Explicit.element((2, 0x10), "UI", syntax.len().next_multiple_of(2) as u32, &{
            let mut uid = syntax.as_bytes().to_vec();
            uid.resize(syntax.len().next_multiple_of(2), 0);
            uid
        });
    [&[0; 128], &b"DICM"[..], &meta, data_set].concat()
}

/// The description of pixels: columns, rows, samples, bits allocated and stored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) columns: u16,
    pub(crate) rows: u16,
    pub(crate) samples: u16,
    pub(crate) allocated: u16,
    pub(crate) stored: u16,
}

impl Shape {
    /// The elements of group 0028 that describe the pixels.
    pub(crate) fn elements(self, coding: Coding, photometric: &str) -> Vec<u8> {
        let Self { columns, rows, samples, allocated, stored } = self;
        [
            coding.number((0x28, 0x02), samples),
            coding.text((0x28, 0x04), "CS", photometric),
            coding.number((0x28, 0x10), rows),
            coding.number((0x28, 0x11), columns),
            coding.number((0x28, 0x100), allocated),
            coding.number((0x28, 0x101), stored),
            coding.number((0x28, 0x102), stored - 1),
            coding.number((0x28, 0x103), 0),
        ]
        .concat()
    }
}

/// Encapsulated pixel data of these fragments, with an empty table of offsets.
pub(crate) fn fragments(fragments: &[&[u8]]) -> Vec<u8> {
    let coding = Coding::Explicit;
    let mut bytes = coding.element((0x7FE0, 0x10), "OB", u32::MAX, &[]);
    bytes.extend(coding.element((0xFFFE, 0xE000), "", 0, &[]));
    for fragment in fragments {
        let mut padded = fragment.to_vec();
        padded.resize(fragment.len().next_multiple_of(2), 0);
        bytes.extend(coding.element((0xFFFE, 0xE000), "", padded.len() as u32, &padded));
    }
    bytes.extend(coding.element((0xFFFE, 0xE0DD), "", 0, &[]));
    bytes
}

/// A file of compressed frames.
pub(crate) fn compressed(
    syntax: &str,
    shape: Shape,
    photometric: &str,
    frames: &[&[u8]],
) -> Vec<u8> {
    let data_set = [
        Coding::Explicit.text((0x28, 0x08), "IS", &frames.len().to_string()),
        shape.elements(Coding::Explicit, photometric),
        fragments(frames),
    ];
    file(syntax, &data_set.concat())
}
