//! Numbers of any number of bits, the least significant first, as JPEG XL writes them.

/// Reads bits of a header. Beyond the end there are none.
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Bits<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// `u(count)` of ISO/IEC 18181-1, at most 32 bits.
    pub(super) fn take(&mut self, count: u32) -> Option<u32> {
        let mut value = 0;
        for place in 0..count {
            let byte = self.bytes.get(self.at / 8)?;
            value |= u32::from(byte >> (self.at % 8) & 1) << place;
            self.at += 1;
        }
        Some(value)
    }

    pub(super) fn flag(&mut self) -> Option<bool> {
        self.take(1).map(|bit| bit == 1)
    }

    /// `U32(d0, d1, d2, d3)`: each a start and how many bits are added to it.
    pub(super) fn choice(&mut self, of: [(u32, u32); 4]) -> Option<u32> {
        let [zero, one, two, three] = of;
        let (start, bits) = match self.take(2)? {
            0 => zero,
            1 => one,
            2 => two,
            _ => three,
        };
        start.checked_add(self.take(bits)?)
    }
}
