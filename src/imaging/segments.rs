//! PNG chunks and JPEG segments: those that make up the picture stay, texts and tags of others go.

use super::ImagingError;
use super::foreign::Foreign;

/// A PNG with the chunks that make up its picture, and no others.
pub(super) fn strip_png(bytes: &[u8]) -> Result<Vec<u8>, ImagingError> {
    const SIGNATURE: usize = 8;
    const KEPT: &[&[u8; 4]] =
        &[b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"sBIT"];
    let broken = |reason: &str| ImagingError::Raster { format: "PNG", reason: reason.to_owned() };
    let mut kept = bytes.get(..SIGNATURE).ok_or_else(|| broken("it is cut short"))?.to_vec();
    let mut at = SIGNATURE;
    loop {
        let header = bytes.get(at..at + 8).ok_or_else(|| broken("it ends without IEND"))?;
        let length = u32::from_be_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let chunk = bytes.get(at..at + 12 + length).ok_or_else(|| broken("it is cut short"))?;
        let kind = &chunk[4..8];
        if KEPT.iter().any(|name| name.as_slice() == kind) {
            kept.extend_from_slice(chunk);
        }
        if kind == b"IEND" {
            return Ok(kept);
        }
        at += chunk.len();
    }
}

/// A JPEG without its application data and comments, and whether those asked for a rotation.
pub(super) fn strip_jpeg(bytes: &[u8]) -> Result<(Vec<u8>, bool), ImagingError> {
    let broken = || ImagingError::Raster { format: "JPEG", reason: "it is cut short".to_owned() };
    let (mut kept, mut at, mut rotated) = (vec![0xFF, 0xD8], 2, false);
    loop {
        let marker = *bytes.get(at + 1).ok_or_else(broken)?;
        if bytes[at] != 0xFF {
            return Err(broken());
        }
        match marker {
            // SOF55 starts a frame of JPEG-LS (ITU-T T.87 C.1.1).
            0xF7 => return Err(ImagingError::Foreign(Foreign::JpegLs)),
            // Fill bytes may come before any marker.
            0xFF => at += 1,
            0xD9 => {
                kept.extend([0xFF, 0xD9]);
                return Ok((kept, rotated));
            }
            0x01 | 0xD0..=0xD7 => {
                kept.extend([0xFF, marker]);
                at += 2;
            }
            _ => {
                let length = bytes.get(at + 2..at + 4).ok_or_else(broken)?;
                let end = at + 2 + usize::from(u16::from_be_bytes([length[0], length[1]]));
                let segment = bytes.get(at..end).ok_or_else(broken)?;
                let dropped = match marker {
                    0xE0 => segment.get(4..9) != Some(b"JFIF\0"),
                    0xEE => segment.get(4..9) != Some(b"Adobe"),
                    0xE1..=0xEF | 0xFE => true,
                    _ => false,
                };
                rotated |= marker == 0xE1 && asks_for_rotation(segment);
                if !dropped {
                    kept.extend_from_slice(segment);
                }
                at = end;
                if marker == 0xDA {
                    let scan = entropy_coded(&bytes[at..]);
                    kept.extend_from_slice(&bytes[at..at + scan]);
                    at += scan;
                }
            }
        }
    }
}

/// How many bytes of entropy-coded data come before the next marker (ITU-T T.81 B.1.1.5).
fn entropy_coded(bytes: &[u8]) -> usize {
    let marker = bytes
        .windows(2)
        .position(|two| two[0] == 0xFF && !matches!(two[1], 0x00 | 0xFF | 0xD0..=0xD7));
    marker.unwrap_or(bytes.len())
}

/// Whether an EXIF segment carries an orientation other than upright (EXIF 2.3, tag 0x0112).
fn asks_for_rotation(segment: &[u8]) -> bool {
    let Some(tiff) = segment.strip_prefix(&segment[..4.min(segment.len())]) else { return false };
    let Some(tiff) = tiff.strip_prefix(b"Exif\0\0") else { return false };
    let big = tiff.starts_with(b"MM");
    let entry: &[u8] =
        if big { &[0x01, 0x12, 0, 3, 0, 0, 0, 1, 0] } else { &[0x12, 0x01, 3, 0, 1, 0, 0, 0] };
    let value = tiff.windows(entry.len() + 1).find(|window| window.starts_with(entry));
    value.and_then(|window| window.last()).is_some_and(|orientation| *orientation > 1)
}

/// Zeroes the comments and foreign application segments before the first scan of a JPEG.
pub(super) fn blank_comments(jpeg: &mut [u8]) {
    if !jpeg.starts_with(&[0xFF, 0xD8]) {
        return;
    }
    let mut at = 2;
    while let Some(&[0xFF, marker, high, low]) = jpeg.get(at..at + 4) {
        let end = at + 2 + usize::from(u16::from_be_bytes([high, low]));
        let Some(content) = jpeg.get_mut(at + 4..end) else { return };
        match marker {
            0xDA | 0xD9 => return,
            // JFIF, Adobe and the colour transform of JPEG-LS decide how pixels are read.
            0xE0 if content.starts_with(b"JFIF") => {}
            0xEE if content.starts_with(b"Adobe") => {}
            0xE8 if content.starts_with(b"mrfx") => {}
            0xE0..=0xEF | 0xFE => content.fill(0),
            _ => {}
        }
        at = end;
    }
}
