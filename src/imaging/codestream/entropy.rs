//! The entropy-coded data of a JPEG scan, followed code by code to where it ends (ITU-T T.81 F.2, G.2
//! and H.2), so that a picture that lacks data is known, and nothing hides behind its last code.

/// A Huffman table as its segment tells it (B.2.4.2).
pub(super) struct Codes {
    /// Value and length of the code that starts with these bits; length 0 where none does.
    short: Vec<(u8, u8)>,
    /// For each length: the greatest code and one more, and what leads from a code to its value.
    ends: [(u32, i32); 17],
    values: Vec<u8>,
}

const SHORT: u32 = 9;

impl Codes {
    /// From the counts of codes of each length, and their values.
    pub(super) fn new(counts: &[u8; 16], values: &[u8]) -> Option<Self> {
        let mut short = vec![(0, 0); 1 << SHORT];
        let mut ends = [(0, 0); 17];
        let (mut code, mut at) = (0_u32, 0);
        for (length, count) in (1_u32..).zip(counts) {
            let first = at;
            let start = code;
            for _ in 0..*count {
                let value = *values.get(at)?;
                if length <= SHORT {
                    let low = (code << (SHORT - length)) as usize;
                    let span = 1 << (SHORT - length);
                    short.get_mut(low..low + span)?.fill((value, length as u8));
                }
                code += 1;
                at += 1;
            }
            if code > 1 << length {
                return None;
            }
            ends[length as usize] = (code, first as i32 - start as i32);
            code <<= 1;
        }
        Some(Self { short, ends, values: values.to_vec() })
    }
}

/// One component of a scan.
pub(super) struct Part<'a> {
    /// Codes of the first coefficient, or of differences.
    pub(super) dc: Option<&'a Codes>,
    /// Codes of the other coefficients.
    pub(super) ac: Option<&'a Codes>,
    /// Blocks (samples, if lossless) that a unit of the scan has of it.
    pub(super) blocks: u32,
}

/// The content that a scan codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    /// Whole blocks.
    Sequential,
    /// Differences of samples.
    Lossless,
    /// First coefficients of blocks.
    First,
    /// One more bit of first coefficients.
    FirstRefined,
    /// A band of further coefficients.
    Band(u8, u8),
    /// One more bit of a band.
    BandRefined(u8, u8),
}

/// A scan to be followed.
pub(super) struct Scan<'a> {
    pub(super) coding: Coding,
    pub(super) parts: Vec<Part<'a>>,
    /// Units of all parts that it has.
    pub(super) units: u64,
    /// Units between two restart markers; 0 is none.
    pub(super) restart: u32,
}

/// The reason why a scan cannot be followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The data end before the picture does.
    Short,
    /// There is no such code.
    Code,
    /// A marker that belongs between two parts is missing.
    Restart,
}

impl Scan<'_> {
    /// Follows the data and appends those that were used. `known` are the coefficients of each block
    /// that earlier scans found to be other than zero, for scans of bands.
    pub(super) fn follow(
        &self,
        data: &[u8],
        known: &mut [u64],
        kept: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        let mut reader = Reader { data, at: 0, bits: 0, held: 0 };
        let (mut done, mut run, mut marker) = (0, 0_u32, 0);
        while done < self.units {
            let until = match self.restart {
                0 => self.units,
                restart => (done + u64::from(restart)).min(self.units),
            };
            let start = reader.at;
            for unit in done..until {
                match self.coding {
                    Coding::Band(from, to) => {
                        let known = known.get_mut(unit as usize).ok_or(Fault::Short)?;
                        self.band(&mut reader, known, &mut run, (from, to))?;
                    }
                    Coding::BandRefined(from, to) => {
                        let known = known.get_mut(unit as usize).ok_or(Fault::Short)?;
                        self.refined(&mut reader, known, &mut run, (from, to))?;
                    }
                    Coding::Sequential
                    | Coding::Lossless
                    | Coding::First
                    | Coding::FirstRefined => self.unit(&mut reader)?,
                }
            }
            let (end, spare) = reader.align();
            kept.extend_from_slice(data.get(start..end).unwrap_or_default());
            if spare > 0
                && let Some(last) = last_byte(kept)
            {
                // Unused bits are ones (F.1.2.3).
                *last |= (1 << spare) - 1;
            }
            stuff(kept);
            (done, run) = (until, 0);
            if done < self.units {
                reader.restart(marker)?;
                kept.extend([0xFF, 0xD0 + marker]);
                marker = (marker + 1) % 8;
            }
        }
        Ok(())
    }

    /// A unit of anything but a band.
    fn unit(&self, reader: &mut Reader<'_>) -> Result<(), Fault> {
        for part in &self.parts {
            for _ in 0..part.blocks {
                match self.coding {
                    Coding::Sequential => {
                        let size = reader.code(part.dc)?;
                        reader.skip(u32::from(size.min(16)))?;
                        let mut place = 1;
                        while place < 64 {
                            let (run, size) = halves(reader.code(part.ac)?);
                            match (run, size) {
                                (15, 0) => place += 16,
                                (_, 0) => break,
                                _ => {
                                    reader.skip(size)?;
                                    place += run + 1;
                                }
                            }
                        }
                    }
                    Coding::Lossless => {
                        let size = u32::from(reader.code(part.dc)?);
                        // H.1.2.2: a difference of 32768 needs no more bits.
                        reader.skip(if size >= 16 { 0 } else { size })?;
                    }
                    Coding::First => {
                        let size = reader.code(part.dc)?;
                        reader.skip(u32::from(size.min(16)))?;
                    }
                    Coding::FirstRefined => reader.skip(1)?,
                    Coding::Band(..) | Coding::BandRefined(..) => {}
                }
            }
        }
        Ok(())
    }

    fn codes(&self) -> Option<&Codes> {
        self.parts.first().and_then(|part| part.ac)
    }

    /// A block of a band for the first time (G.1.2.2).
    fn band(
        &self,
        reader: &mut Reader<'_>,
        known: &mut u64,
        ends: &mut u32,
        (from, to): (u8, u8),
    ) -> Result<(), Fault> {
        if *ends > 0 {
            *ends -= 1;
            return Ok(());
        }
        let mut place = u32::from(from);
        while place <= u32::from(to) {
            let (run, size) = halves(reader.code(self.codes())?);
            match (run, size) {
                (15, 0) => place += 16,
                (run, 0) => {
                    *ends = (1 << run) - 1 + reader.take(run)?;
                    break;
                }
                _ => {
                    place += run;
                    reader.skip(size)?;
                    *known |= 1_u64.checked_shl(place).unwrap_or(0);
                    place += 1;
                }
            }
        }
        Ok(())
    }

    /// One more bit of a band of a block (G.1.2.3).
    fn refined(
        &self,
        reader: &mut Reader<'_>,
        known: &mut u64,
        ends: &mut u32,
        (from, to): (u8, u8),
    ) -> Result<(), Fault> {
        let is_known = |known: u64, place: u32| known >> place & 1 == 1;
        let (mut place, to) = (u32::from(from), u32::from(to));
        while *ends == 0 && place <= to {
            let (mut run, size) = halves(reader.code(self.codes())?);
            if size == 0 && run < 15 {
                *ends = (1 << run) + reader.take(run)?;
                break;
            }
            if size > 0 {
                reader.skip(1)?;
            }
            while place <= to {
                if is_known(*known, place) {
                    reader.skip(1)?;
                } else if run == 0 {
                    break;
                } else {
                    run -= 1;
                }
                place += 1;
            }
            if size > 0 && place <= to {
                *known |= 1 << place;
            }
            place += 1;
        }
        if *ends > 0 {
            let left = (place..=to).filter(|place| is_known(*known, *place)).count();
            for _ in 0..left {
                reader.skip(1)?;
            }
            *ends -= 1;
        }
        Ok(())
    }
}

/// The run of zeros and the size that a code of further coefficients stands for.
fn halves(value: u8) -> (u32, u32) {
    (u32::from(value >> 4), u32::from(value & 15))
}

/// The last byte of data, which may be followed by the zero that marks a byte of ones.
fn last_byte(kept: &mut [u8]) -> Option<&mut u8> {
    match kept {
        [.., last @ 0xFF, 0] | [.., last] => Some(last),
        [] => None,
    }
}

/// A last byte that has become all ones is marked as data.
fn stuff(kept: &mut Vec<u8>) {
    if kept.last() == Some(&0xFF) {
        kept.push(0);
    }
}

/// Bits, the most significant first. A byte of ones that is data is followed by a zero (B.1.1.5).
struct Reader<'a> {
    data: &'a [u8],
    at: usize,
    bits: u64,
    held: u32,
}

impl Reader<'_> {
    /// Takes in bytes until a marker or enough bits are there.
    fn fill(&mut self) {
        while self.held <= 48 {
            let byte = match self.data.get(self.at..) {
                Some([0xFF, 0, ..]) => {
                    self.at += 2;
                    0xFF
                }
                Some([0xFF, ..] | []) | None => return,
                Some([byte, ..]) => {
                    self.at += 1;
                    *byte
                }
            };
            self.bits = self.bits << 8 | u64::from(byte);
            self.held += 8;
        }
    }

    fn skip(&mut self, count: u32) -> Result<(), Fault> {
        self.take(count).map(drop)
    }

    fn take(&mut self, count: u32) -> Result<u32, Fault> {
        if self.held < count {
            self.fill();
            if self.held < count {
                return Err(Fault::Short);
            }
        }
        self.held -= count;
        Ok((self.bits >> self.held) as u32 & ((1 << count) - 1))
    }

    /// The value of the next code.
    fn code(&mut self, codes: Option<&Codes>) -> Result<u8, Fault> {
        let codes = codes.ok_or(Fault::Code)?;
        if self.held < 16 {
            self.fill();
        }
        // Beyond the end there are ones, which no code consists of.
        let peek = |count: u32| -> u32 {
            let mask = (1_u32 << count) - 1;
            if self.held >= count {
                (self.bits >> (self.held - count)) as u32 & mask
            } else {
                let missing = count - self.held;
                ((self.bits << missing) as u32 | ((1 << missing) - 1)) & mask
            }
        };
        let (value, length) = codes.short.get(peek(SHORT) as usize).copied().unwrap_or_default();
        if length > 0 {
            self.skip(u32::from(length))?;
            return Ok(value);
        }
        for length in SHORT + 1..=16 {
            let code = peek(length);
            let (end, offset) = codes.ends[length as usize];
            if code < end {
                self.skip(length)?;
                let at = usize::try_from(code as i32 + offset).ok();
                return at.and_then(|at| codes.values.get(at)).copied().ok_or(Fault::Code);
            }
        }
        Err(if self.held < 16 { Fault::Short } else { Fault::Code })
    }

    /// Steps to the next whole byte, gives back what was taken in too early, and says where the data
    /// that were used end and how many bits of their last byte were not.
    fn align(&mut self) -> (usize, u32) {
        let spare = self.held % 8;
        for _ in 0..self.held / 8 {
            let stuffed = self.at >= 2 && self.data.get(self.at - 2..self.at) == Some(&[0xFF, 0]);
            self.at -= if stuffed { 2 } else { 1 };
        }
        (self.held, self.bits) = (0, 0);
        (self.at, spare)
    }

    /// Steps over the next restart marker, and whatever stands before it.
    fn restart(&mut self, number: u8) -> Result<(), Fault> {
        let rest = self.data.get(self.at..).unwrap_or_default();
        let is_marker = |two: &[u8]| two[0] == 0xFF && (0xD0..=0xD7).contains(&two[1]);
        let found = rest.windows(2).position(is_marker).ok_or(Fault::Restart)?;
        if rest.get(found + 1) != Some(&(0xD0 + number)) {
            return Err(Fault::Restart);
        }
        self.at += found + 2;
        Ok(())
    }
}
