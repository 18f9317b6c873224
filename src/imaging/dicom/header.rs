//! The header of a DICOM object's pixels: sizes, bits and colour model.

/// The sizes, bits and colour model of an object's pixels, checked against the limits.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::imaging) struct Header {
    pub(in crate::imaging) width: u32,
    pub(in crate::imaging) height: u32,
    pub(in crate::imaging) frames: u32,
    pub(super) modality: Option<String>,
    pub(in crate::imaging) samples: u32,
    pub(in crate::imaging) bits_allocated: u32,
    pub(super) bits_stored: u32,
    /// Bits below the stored ones.
    pub(super) shift: u32,
    pub(super) signed: bool,
    pub(super) planar: bool,
    pub(super) photometric: String,
}

impl Header {
    /// Pixels of a frame.
    pub(super) fn pixels(&self) -> usize {
        self.width as usize * self.height as usize
    }

    /// Bytes of a frame of plain samples, of which there are `found` in all frames: subsampled colours
    /// may lie as they are or be written out.
    pub(super) fn native_frame_bytes(&self, found: usize) -> usize {
        let whole = self.pixels() * self.samples as usize * (self.bits_allocated as usize / 8);
        let subsampled =
            self.photometric == "YBR_FULL_422" && self.bits_allocated == 8 && self.samples == 3;
        if subsampled && found < whole * self.frames as usize { self.pixels() * 2 } else { whole }
    }
}
