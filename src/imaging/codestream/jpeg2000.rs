//! JPEG 2000 and its high-throughput kind: the SIZ marker, and the codestream without comments.
//!
//! ISO/IEC 15444-1 Annex A: a main header, tile-parts with headers of their own, and an end. Comments
//! and hints are left out of the headers; whatever comes after the end is left out, too.

use super::Facts;

const CODESTREAM_START: [u8; 4] = [0xFF, 0x4F, 0xFF, 0x51];
const TILE_PART: u8 = 0x90;
const DATA: u8 = 0x93;
const END: [u8; 2] = [0xFF, 0xD9];
/// The bytes that a file of boxes starts with (Annex I).
const BOXES: &[u8] = b"\0\0\0\x0CjP  \r\n\x87\n";
/// Marker segments that say how to decode: COD, COC, QCD, QCC, RGN, POC, PPM, PPT, CAP, PRF, CPF and
/// the multiple component transforms. Comments (COM), registration (CRG) and the lengths that only
/// help to find a tile (TLM, PLM, PLT) are not among them.
const NEEDED: &[u8] =
    &[0x50, 0x52, 0x53, 0x56, 0x59, 0x5C, 0x5D, 0x5E, 0x5F, 0x60, 0x61, 0x74, 0x75, 0x77];

/// The facts that SIZ tells of the picture.
pub(in crate::imaging) fn facts(bytes: &[u8]) -> Result<Facts, &'static str> {
    let bytes = raw(bytes)?;
    let siz = bytes.strip_prefix(&CODESTREAM_START).ok_or("it does not start as JPEG 2000 does")?;
    let long = |at: usize| {
        let four = siz.get(at..at + 4).and_then(|four| four.try_into().ok());
        four.map(u32::from_be_bytes).ok_or(CUT)
    };
    let short = |at: usize| {
        let two = siz.get(at..at + 2).and_then(|two| two.try_into().ok());
        two.map(u16::from_be_bytes).ok_or(CUT)
    };
    // A.5.1: length, capabilities, size, offset, size and offset of tiles, components.
    let (right, bottom, left, top) = (long(4)?, long(8)?, long(12)?, long(16)?);
    let (tile_width, tile_height) = (long(20)?, long(24)?);
    let (tile_left, tile_top) = (long(28)?, long(32)?);
    let components = usize::from(short(36)?);
    let each = siz.get(38..38 + 3 * components).ok_or(CUT)?;
    let (Some(width), Some(height)) = (right.checked_sub(left), bottom.checked_sub(top)) else {
        return Err("its size is less than nothing");
    };
    if width == 0 || height == 0 || tile_width == 0 || tile_height == 0 {
        return Err("its size is nothing");
    }
    let tiles = |end: u32, start: u32, tile: u32| {
        u64::from(end.saturating_sub(start)).div_ceil(u64::from(tile))
    };
    // A tile has at least one tile-part (A.4.2), whose markers take 14 bytes.
    let count = tiles(right, tile_left, tile_width) * tiles(bottom, tile_top, tile_height);
    if count * 14 > bytes.len() as u64 {
        return Err("it is cut short: it declares more tiles than it holds");
    }
    let Some([depth, ..]) = each.first_chunk::<3>() else { return Err("it has no components") };
    if each.chunks_exact(3).any(|one| one != [*depth, 1, 1]) {
        return Err("its components differ in size or depth");
    }
    let precision = u32::from(depth & 0x7F) + 1;
    Ok(Facts { width, height, components: components as u32, precision })
}

/// The codestream with the markers that decoding needs, and nothing after its end.
pub(in crate::imaging) fn clean(bytes: &[u8]) -> Result<Vec<u8>, &'static str> {
    let bytes = raw(bytes)?;
    let siz = segment(bytes, 2).ok_or(CUT)?;
    let mut kept = bytes.get(..2 + siz.len()).ok_or(CUT)?.to_vec();
    let mut at = kept.len();
    // The main header.
    loop {
        let marker = marker(bytes, at).ok_or(CUT)?;
        if marker == TILE_PART {
            break;
        }
        let segment = segment(bytes, at).ok_or(CUT)?;
        if NEEDED.contains(&marker) {
            kept.extend_from_slice(segment);
        }
        at += segment.len();
    }
    while marker(bytes, at) == Some(TILE_PART) {
        at = tile_part(bytes, at, &mut kept)?;
    }
    kept.extend(END);
    Ok(kept)
}

const CUT: &str = "it is cut short";

/// The codestream itself, without the boxes of a file around it. A file whose boxes change what the
/// components mean (a palette, another order) would be another picture without them.
fn raw(bytes: &[u8]) -> Result<&[u8], &'static str> {
    let Some(mut rest) = bytes.strip_prefix(BOXES) else { return Ok(bytes) };
    loop {
        let (length, after) = rest.split_first_chunk::<4>().ok_or("no box holds a picture")?;
        let (kind, after) = after.split_first_chunk::<4>().ok_or(CUT)?;
        let (length, after) = match u32::from_be_bytes(*length) {
            0 => (after.len(), after),
            1 => {
                let (long, after) = after.split_first_chunk::<8>().ok_or(CUT)?;
                (u64::from_be_bytes(*long).saturating_sub(16) as usize, after)
            }
            length => ((length as usize).saturating_sub(8), after),
        };
        let (content, after) = after.split_at_checked(length).ok_or(CUT)?;
        match kind {
            b"jp2c" => return Ok(content),
            b"jp2h" if [&b"pclr"[..], b"cmap", b"cdef"].iter().any(|kind| holds(content, kind)) => {
                return Err("its boxes change what its components mean");
            }
            _ => rest = after,
        }
    }
}

/// Whether the boxes within a box are of this kind, wherever they stand.
fn holds(content: &[u8], kind: &[u8]) -> bool {
    content.windows(4).any(|four| four == kind)
}

fn marker(bytes: &[u8], at: usize) -> Option<u8> {
    bytes.get(at..at + 2).filter(|two| two[0] == 0xFF).map(|two| two[1])
}

/// A marker segment with its marker.
fn segment(bytes: &[u8], at: usize) -> Option<&[u8]> {
    marker(bytes, at)?;
    let length = bytes.get(at + 2..at + 4)?;
    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
    (length >= 2).then(|| bytes.get(at..at + 2 + length)).flatten()
}

/// Appends a tile-part without what it does not need, and says where it ends.
fn tile_part(bytes: &[u8], start: usize, kept: &mut Vec<u8>) -> Result<usize, &'static str> {
    let sot = segment(bytes, start).filter(|sot| sot.len() == 12).ok_or(CUT)?;
    let psot = sot.get(6..10).and_then(|psot| psot.try_into().ok()).ok_or(CUT)?;
    let psot = u32::from_be_bytes(psot) as usize;
    let end = if psot == 0 {
        // The last one may reach to the end (A.4.2), a marker that data cannot hold (A.3).
        let rest = bytes.get(start + sot.len()..).unwrap_or_default();
        let end = rest.windows(2).position(|two| two == END);
        start + sot.len() + end.unwrap_or(rest.len())
    } else {
        // What was cut short is for the decoder to judge.
        start.saturating_add(psot).min(bytes.len())
    };
    let bytes = bytes.get(..end).ok_or(CUT)?;
    let (kept_start, mut at) = (kept.len(), start + sot.len());
    kept.extend_from_slice(sot);
    loop {
        let marker = marker(bytes, at).ok_or(CUT)?;
        if marker == DATA {
            break;
        }
        let segment = segment(bytes, at).ok_or(CUT)?;
        if NEEDED.contains(&marker) {
            kept.extend_from_slice(segment);
        }
        at += segment.len();
    }
    kept.extend_from_slice(bytes.get(at..).unwrap_or_default());
    // Less what was left out, and no less than what is announced where it was cut short.
    if psot != 0 {
        let dropped = (end - start) - (kept.len() - kept_start);
        let length = (psot - dropped) as u32;
        if let Some(place) = kept.get_mut(kept_start + 6..kept_start + 10) {
            place.copy_from_slice(&length.to_be_bytes());
        }
    }
    Ok(end)
}

#[cfg(test)]
mod tests {

    use super::{clean, facts};

    fn siz(width: u32, height: u32, tile: u32, depths: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0xFF, 0x4F, 0xFF, 0x51, 0, 38 + 3 * depths.len() as u8, 0, 0];
        for long in [width, height, 0, 0, tile, tile, 0, 0] {
            bytes.extend(long.to_be_bytes());
        }
        bytes.extend([0, depths.len() as u8]);
        depths.iter().for_each(|depth| bytes.extend([*depth, 1, 1]));
        bytes
    }

    fn tile_part(psot: u32, header: &[u8], data: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0xFF, 0x90, 0, 10, 0, 0];
        bytes.extend(psot.to_be_bytes());
        bytes.extend([0, 1]);
        [&bytes[..], header, &[0xFF, 0x93], data].concat()
    }

    const COMMENT: &[u8] = b"\xFF\x64\x00\x07\x00\x01DOE";
    const NEEDED: &[u8] = b"\xFF\x52\x00\x04\x01\x02";

    #[test]
    fn comments_of_both_headers_and_the_tail_are_left_out() {
        let header = siz(8, 8, 8, &[7]);
        let dirty = [
            &header[..],
            COMMENT,
            NEEDED,
            &tile_part(23 + 5, COMMENT, b"data!"),
            &tile_part(0, b"", b"more"),
            b"\xFF\xD9tail DOE",
        ]
        .concat();

        let cleaned = clean(&dirty).expect("a codestream");

        let expected = [
            &header[..],
            NEEDED,
            &tile_part(14 + 5, b"", b"data!"),
            &tile_part(0, b"", b"more"),
            b"\xFF\xD9",
        ];
        assert_eq!(cleaned, expected.concat());
        assert_eq!(clean(&cleaned), Ok(cleaned.clone()));
    }

    #[test]
    fn a_picture_of_many_tiles_needs_room_for_them() {
        let room = vec![0; 14 * 16];
        let sized = |tile| [siz(64, 64, tile, &[11]), room.clone()].concat();

        assert_eq!(facts(&sized(16)).map(|facts| facts.precision), Ok(12));
        assert!(facts(&sized(1)).is_err());
        assert!(facts(&siz(64, 64, 64, &[7, 11])).is_err(), "of differing depth");
    }
}
