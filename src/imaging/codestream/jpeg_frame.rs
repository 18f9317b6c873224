//! The marker segments of JPEG data and the frame header among them (ITU-T T.81 B.1 and B.2).

use super::Facts;
use super::entropy::Coding;

/// The marker that JPEG data start with.
pub(super) const START: [u8; 2] = [0xFF, 0xD8];
pub(super) const CUT: &str = "it is cut short";

/// A marker segment: marker and content (B.1.1.4).
#[derive(Clone, Copy)]
pub(super) struct Segment<'a> {
    pub(super) marker: u8,
    pub(super) content: &'a [u8],
}

/// The marker segments of JPEG data, between and before whose scans other things may stand.
pub(super) struct Segments<'a> {
    rest: &'a [u8],
    /// Whether the end of the image was met.
    pub(super) ended: bool,
}

impl<'a> Segments<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Result<Self, &'static str> {
        let rest = bytes.strip_prefix(&START).ok_or("it does not start as JPEG does")?;
        Ok(Self { rest, ended: false })
    }

    pub(super) fn next(&mut self) -> Result<Option<Segment<'a>>, &'static str> {
        loop {
            match self.rest {
                // Padding of a fragment, or an end that is missing.
                [] | [0] if !self.ended => return Ok(None),
                [0xFF, 0xD9, ..] => {
                    self.ended = true;
                    return Ok(None);
                }
                // Fill bytes may come before any marker; some markers stand alone.
                [0xFF, rest @ ..] if rest.first() == Some(&0xFF) => self.rest = rest,
                [0xFF, 0x01 | 0xD0..=0xD7, rest @ ..] => self.rest = rest,
                [0xFF, marker, high, low, rest @ ..] => {
                    let length = usize::from(u16::from_be_bytes([*high, *low]));
                    let length = length.checked_sub(2).ok_or(CUT)?;
                    let (content, rest) = rest.split_at_checked(length).ok_or(CUT)?;
                    self.rest = rest;
                    return Ok(Some(Segment { marker: *marker, content }));
                }
                _ => return Err(CUT),
            }
        }
    }

    /// The data of a scan whose header came last: up to a marker other than a restart (B.1.1.5).
    pub(super) fn entropy_coded(&mut self) -> &'a [u8] {
        let is_marker = |two: &[u8]| two[0] == 0xFF && !matches!(two[1], 0x00 | 0xFF | 0xD0..=0xD7);
        let length = self.rest.windows(2).position(is_marker).unwrap_or(self.rest.len());
        let (data, rest) = self.rest.split_at(length);
        self.rest = rest;
        data
    }
}

/// The sentence on JPEG-LS (ITU-T T.87), which starts as JPEG does.
pub(in crate::imaging) const JPEG_LS: &str = "it is JPEG-LS, which is not read";

/// The process by which blocks are coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Process {
    Sequential,
    Progressive,
    Lossless,
}

/// A frame header (B.2.2).
pub(super) struct Frame {
    pub(super) marker: u8,
    pub(super) process: Process,
    pub(super) precision: u8,
    pub(super) width: u16,
    pub(super) height: u16,
    pub(super) components: Vec<Component>,
}

pub(super) struct Component {
    pub(super) id: u8,
    pub(super) horizontal: u8,
    pub(super) vertical: u8,
    pub(super) table: u8,
    /// Coefficients of each block that are known to be other than zero; if progressive.
    pub(super) known: Vec<u64>,
    /// Whether a scan began it.
    pub(super) begun: bool,
}

impl Frame {
    /// The frame that a segment describes, if it describes one.
    pub(super) fn of(
        Segment { marker, content }: Segment<'_>,
    ) -> Result<Option<Self>, &'static str> {
        let process = match marker {
            0xC0 | 0xC1 => Process::Sequential,
            0xC2 => Process::Progressive,
            0xC3 => Process::Lossless,
            0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF => {
                return Err("it is hierarchical or coded arithmetically, which is not read");
            }
            0xF7 => return Err(JPEG_LS),
            _ => return Ok(None),
        };
        let [precision, h1, h0, w1, w0, count, rest @ ..] = content else { return Err(CUT) };
        let (height, width) = (u16::from_be_bytes([*h1, *h0]), u16::from_be_bytes([*w1, *w0]));
        if width == 0 || height == 0 {
            return Err("its frame header says no size");
        }
        let each = rest.get(..3 * usize::from(*count)).ok_or(CUT)?;
        let components: Vec<Component> = each
            .chunks_exact(3)
            .map(|three| Component {
                id: three[0],
                horizontal: three[1] >> 4,
                vertical: three[1] & 15,
                table: three[2],
                known: Vec::new(),
                begun: false,
            })
            .collect();
        let is_factor = |factor| (1..=4).contains(&factor);
        let usable = |one: &Component| is_factor(one.horizontal) && is_factor(one.vertical);
        if !(1..=4).contains(&components.len()) || !components.iter().all(usable) {
            return Err("its frame header makes no sense");
        }
        Ok(Some(Self { marker, process, precision: *precision, width, height, components }))
    }

    pub(super) fn facts(&self) -> Facts {
        Facts {
            width: u32::from(self.width),
            height: u32::from(self.height),
            components: self.components.len() as u32,
            precision: u32::from(self.precision),
        }
    }

    /// The greatest sampling factors.
    pub(super) fn factors(&self) -> (u32, u32) {
        let greatest =
            |of: fn(&Component) -> u8| self.components.iter().map(of).max().map_or(1, u32::from);
        (greatest(|one| one.horizontal), greatest(|one| one.vertical))
    }

    /// Samples along a side of a block.
    pub(super) fn block(&self) -> u32 {
        if self.process == Process::Lossless { 1 } else { 8 }
    }

    /// Blocks of one component alone (A.2.2).
    pub(super) fn blocks(&self, component: &Component) -> u64 {
        let (across, down) = self.factors();
        let count = |size: u16, factor: u8, greatest: u32| {
            let samples = (u32::from(size) * u32::from(factor)).div_ceil(greatest);
            u64::from(samples.div_ceil(self.block()))
        };
        count(self.width, component.horizontal, across)
            * count(self.height, component.vertical, down)
    }

    /// Units of interleaved components (A.2.3).
    pub(super) fn units(&self) -> u64 {
        let (across, down) = self.factors();
        u64::from(u32::from(self.width).div_ceil(self.block() * across))
            * u64::from(u32::from(self.height).div_ceil(self.block() * down))
    }
}

/// The content that a scan of these parameters codes (B.2.3, G.1.1.1).
pub(super) fn coding(process: Process, from: u8, to: u8, bits: u8) -> Option<Coding> {
    let refines = bits >> 4 > 0;
    Some(match process {
        Process::Sequential => Coding::Sequential,
        Process::Lossless => Coding::Lossless,
        Process::Progressive => match (from, refines) {
            (0, _) if to != 0 => return None,
            (0, false) => Coding::First,
            (0, true) => Coding::FirstRefined,
            _ if to < from || to > 63 => return None,
            (_, false) => Coding::Band(from, to),
            (_, true) => Coding::BandRefined(from, to),
        },
    })
}
