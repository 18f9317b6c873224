//! JPEG data, lossy and lossless: what their frame header says, and the same picture without anything
//! else (ITU-T T.81 Annex B).
//!
//! Nothing is copied but what a decoder uses: tables when a scan refers to them, each scan up to its
//! last code, JFIF's and Adobe's marks in their plainest form. So neither comments nor thumbnails nor
//! unused tables nor bytes between and after scans are left. A picture needs all of its data: every
//! block of every scan is followed, and one that lacks any is refused, however its header is made up.

use super::Facts;
use super::entropy::{Codes, Coding, Fault, Part, Scan};
pub(in crate::imaging) use super::jpeg_frame::JPEG_LS;
use super::jpeg_frame::{CUT, Frame, Process, START, Segment, Segments, coding};

const END: [u8; 2] = [0xFF, 0xD9];
const START_OF_SCAN: u8 = 0xDA;
const APPLICATION: u8 = 0xE0;
const EXIF: u8 = 0xE1;
const ADOBE: u8 = 0xEE;
/// Each scan goes over all of the picture again; writers use about ten.
const MOST_SCANS: u32 = 200;
/// JFIF 1.02 without density and thumbnail.
const PLAIN_JFIF: &[u8] = b"\xFF\xE0\x00\x10JFIF\x00\x01\x02\x00\x00\x01\x00\x01\x00\x00";

/// JPEG data as they may be decoded and stored.
#[derive(Debug)]
pub(in crate::imaging) struct Clean {
    pub(in crate::imaging) bytes: Vec<u8>,
    /// Whether EXIF data asked for a rotation.
    pub(in crate::imaging) rotated: bool,
}

/// The facts of the frame header, wherever it stands.
pub(in crate::imaging) fn facts(bytes: &[u8]) -> Result<Facts, &'static str> {
    let mut segments = Segments::of(bytes)?;
    while let Some(segment) = segments.next()? {
        if let Some(frame) = Frame::of(segment)? {
            if frame.process != Process::Lossless && frame.precision != 8 {
                return Err("a 12-bit JPEG, which is not read");
            }
            return Ok(frame.facts());
        }
    }
    Err("it has no frame header")
}

/// Whether they say nothing of their colours: neither JFIF nor Adobe's marker before the first scan.
pub(in crate::imaging) fn is_silent(bytes: &[u8]) -> bool {
    let Ok(mut segments) = Segments::of(bytes) else { return false };
    while let Ok(Some(Segment { marker, .. })) = segments.next() {
        match marker {
            APPLICATION | ADOBE => return false,
            START_OF_SCAN => return true,
            _ => {}
        }
    }
    true
}

/// The picture alone. The caller has compared the facts with its limits.
pub(in crate::imaging) fn clean(bytes: &[u8]) -> Result<Clean, &'static str> {
    let mut segments = Segments::of(bytes)?;
    let mut picture = Picture::default();
    while let Some(segment) = segments.next()? {
        let Segment { marker, content } = segment;
        match marker {
            0xC4 => picture.take_codes(content)?,
            0xDB => picture.take_quantisation(content),
            0xDD => {
                let two = content.first_chunk::<2>().ok_or(CUT)?;
                picture.restart = u16::from_be_bytes(*two);
            }
            START_OF_SCAN => picture.take_scan(content, segments.entropy_coded())?,
            APPLICATION if content.starts_with(b"JFIF") => picture.jfif = true,
            ADOBE if content.starts_with(b"Adobe") => picture.adobe = content.get(11).copied(),
            EXIF => picture.rotated |= asks_for_rotation(content),
            _ => {
                if let Some(frame) = Frame::of(segment)? {
                    picture.take_frame(frame, content)?;
                }
            }
        }
    }
    picture.finish(segments.ended)
}

/// A table and whether it has yet to be written.
struct Pending<T> {
    segment: Vec<u8>,
    value: T,
    is_new: bool,
}

/// The picture as far as it was read.
#[derive(Default)]
struct Picture {
    frame: Option<Frame>,
    quantisation: [Option<Pending<()>>; 4],
    dc: [Option<Pending<Codes>>; 4],
    ac: [Option<Pending<Codes>>; 4],
    restart: u16,
    written_restart: u16,
    jfif: bool,
    adobe: Option<u8>,
    rotated: bool,
    scans: u32,
    /// Frame header, tables and scans.
    body: Vec<u8>,
}

impl Picture {
    fn take_codes(&mut self, mut content: &[u8]) -> Result<(), &'static str> {
        while let Some((place, rest)) = content.split_first() {
            let Some((counts, rest)) = rest.split_first_chunk::<16>() else { break };
            let count = counts.iter().map(|count| usize::from(*count)).sum();
            let (values, rest) = rest.split_at_checked(count).ok_or(CUT)?;
            let codes = Codes::new(counts, values).ok_or("its Huffman tables make no sense")?;
            let tables = if place >> 4 == 0 { &mut self.dc } else { &mut self.ac };
            let segment = [&[*place], &counts[..], values].concat();
            let table = tables.get_mut(usize::from(place & 15));
            *table.ok_or("its Huffman tables make no sense")? =
                Some(Pending { segment, value: codes, is_new: true });
            content = rest;
        }
        Ok(())
    }

    fn take_quantisation(&mut self, mut content: &[u8]) {
        while let Some((place, _)) = content.split_first() {
            let length = if place >> 4 == 0 { 65 } else { 129 };
            let Some((segment, rest)) = content.split_at_checked(length) else { break };
            if let Some(table) = self.quantisation.get_mut(usize::from(place & 15)) {
                let segment = segment.to_vec();
                *table = Some(Pending { segment, value: (), is_new: true });
            }
            content = rest;
        }
    }

    fn take_frame(&mut self, frame: Frame, content: &[u8]) -> Result<(), &'static str> {
        if self.frame.is_some() {
            return Err("it has two frame headers");
        }
        let length = 6 + 3 * frame.components.len();
        self.write_quantisation(&frame);
        write_segment(&mut self.body, frame.marker, content.get(..length).unwrap_or_default());
        self.frame = Some(frame);
        Ok(())
    }

    fn take_scan(&mut self, content: &[u8], data: &[u8]) -> Result<(), &'static str> {
        let mut frame = self.frame.take().ok_or("it has a scan before its frame header")?;
        self.scans += 1;
        if self.scans > MOST_SCANS {
            return Err("it has more scans than any picture needs");
        }
        let count = usize::from(*content.first().ok_or(CUT)?);
        let header = content.get(..4 + 2 * count).ok_or(CUT)?;
        let (Some(selectors), &[from, to, bits]) =
            (header.get(1..1 + 2 * count), header.get(1 + 2 * count..).unwrap_or_default())
        else {
            return Err(CUT);
        };
        let coding = coding(frame.process, from, to, bits).ok_or("a scan makes no sense")?;
        let chosen: Vec<(usize, u8)> = selectors
            .chunks_exact(2)
            .map(|two| {
                let at = frame.components.iter().position(|component| component.id == two[0]);
                at.map(|at| (at, two[1])).ok_or("a scan is of components that do not exist")
            })
            .collect::<Result<_, _>>()?;
        let alone = chosen.len() == 1;
        let is_band = matches!(coding, Coding::Band(..) | Coding::BandRefined(..));
        // The first coefficients come first (G.1.1.1.1): what follows is small beside their data.
        let has_begun =
            chosen.iter().all(|(at, _)| frame.components.get(*at).is_some_and(|one| one.begun));
        let comes_later = is_band || coding == Coding::FirstRefined;
        if chosen.is_empty() || chosen.len() > 4 || is_band && !alone || comes_later && !has_begun {
            return Err("a scan makes no sense");
        }
        self.write_quantisation(&frame);
        let (first, further) = match coding {
            Coding::Sequential => (true, true),
            Coding::Lossless | Coding::First => (true, false),
            Coding::FirstRefined => (false, false),
            Coding::Band(..) | Coding::BandRefined(..) => (false, true),
        };
        for (_, tables) in &chosen {
            if first {
                write_pending(&mut self.body, 0xC4, &mut self.dc, tables >> 4);
            }
            if further {
                write_pending(&mut self.body, 0xC4, &mut self.ac, tables & 15);
            }
        }
        if self.restart != self.written_restart {
            write_segment(&mut self.body, 0xDD, &self.restart.to_be_bytes());
            self.written_restart = self.restart;
        }
        write_segment(&mut self.body, START_OF_SCAN, header);
        let Some(component) = chosen.first().map(|(at, _)| *at) else { return Err(CUT) };
        let blocks = frame.components.get(component).map_or(0, |one| frame.blocks(one));
        let mut known =
            frame.components.get_mut(component).map(|one| std::mem::take(&mut one.known));
        if let Some(known) = known.as_mut().filter(|known| is_band && known.is_empty()) {
            known.resize(blocks as usize, 0);
        }
        let scan = Scan {
            coding,
            parts: chosen
                .iter()
                .map(|(at, tables)| Part {
                    dc: codes(&self.dc, tables >> 4),
                    ac: codes(&self.ac, tables & 15),
                    blocks: match frame.components.get(*at) {
                        Some(one) if !alone => u32::from(one.horizontal) * u32::from(one.vertical),
                        _ => 1,
                    },
                })
                .collect(),
            units: if alone { blocks } else { frame.units() },
            restart: u32::from(self.restart),
        };
        let known_blocks = known.as_deref_mut().unwrap_or_default();
        scan.follow(data, known_blocks, &mut self.body).map_err(|fault| match fault {
            Fault::Short => "it is cut short: a scan has too few data for its size",
            Fault::Code => "it is damaged: a scan holds a code that there is not",
            Fault::Restart => "it is damaged: a scan lacks a restart marker",
        })?;
        for (at, _) in &chosen {
            if let Some(one) = frame.components.get_mut(*at) {
                one.begun |= first;
            }
        }
        if let (Some(one), Some(known)) = (frame.components.get_mut(component), known) {
            one.known = known;
        }
        self.frame = Some(frame);
        Ok(())
    }

    fn finish(self, ended: bool) -> Result<Clean, &'static str> {
        let frame = self.frame.ok_or("it has no frame header")?;
        // Later scans of a progressive picture may be missing where its end is.
        let complete = ended || frame.process != Process::Progressive;
        if !complete || !frame.components.iter().all(|component| component.begun) {
            return Err("it is cut short: scans are missing");
        }
        let mut bytes = START.to_vec();
        if self.jfif {
            bytes.extend(PLAIN_JFIF);
        }
        if let Some(transform) = self.adobe {
            bytes.extend(adobe(transform));
        }
        bytes.extend(self.body);
        bytes.extend(END);
        Ok(Clean { bytes, rotated: self.rotated })
    }

    /// Writes the tables that a frame's components refer to, as far as they are new.
    fn write_quantisation(&mut self, frame: &Frame) {
        if frame.process == Process::Lossless {
            return;
        }
        for component in &frame.components {
            write_pending(&mut self.body, 0xDB, &mut self.quantisation, component.table);
        }
    }
}

/// APP14 as Adobe defines it: what was done to the components.
pub(in crate::imaging) fn adobe(transform: u8) -> [u8; 16] {
    let mut segment = *b"\xFF\xEE\x00\x0EAdobe\x00\x64\x00\x00\x00\x00\x00";
    segment[15] = transform;
    segment
}

fn codes(tables: &[Option<Pending<Codes>>; 4], place: u8) -> Option<&Codes> {
    tables.get(usize::from(place))?.as_ref().map(|table| &table.value)
}

fn write_segment(out: &mut Vec<u8>, marker: u8, content: &[u8]) {
    out.extend([0xFF, marker]);
    out.extend((content.len() as u16 + 2).to_be_bytes());
    out.extend_from_slice(content);
}

fn write_pending<T>(out: &mut Vec<u8>, marker: u8, tables: &mut [Option<Pending<T>>], at: u8) {
    if let Some(Some(table)) = tables.get_mut(usize::from(at))
        && table.is_new
    {
        write_segment(out, marker, &table.segment);
        table.is_new = false;
    }
}

/// Whether EXIF data carry an orientation other than upright (EXIF 2.3, tag 0x0112).
fn asks_for_rotation(content: &[u8]) -> bool {
    let Some(tiff) = content.strip_prefix(b"Exif\0\0") else { return false };
    let entry: &[u8] = if tiff.starts_with(b"MM") {
        &[0x01, 0x12, 0, 3, 0, 0, 0, 1, 0]
    } else {
        &[0x12, 0x01, 3, 0, 1, 0, 0, 0]
    };
    let value = tiff.windows(entry.len() + 1).find(|window| window.starts_with(entry));
    value.and_then(|window| window.last()).is_some_and(|orientation| *orientation > 1)
}
