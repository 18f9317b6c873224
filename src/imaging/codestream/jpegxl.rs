//! JPEG XL: the header of the codestream (ISO/IEC 18181-1), and its container's boxes (18181-2).

use std::borrow::Cow;

use super::Facts;
use super::bits::Bits;

/// The bytes that a container starts with.
const CONTAINER: &[u8] = b"\0\0\0\x0CJXL \r\n\x87\n";
const START: &[u8] = &[0xFF, 0x0A];

/// The codestream without a container: Exif data, XML and whatever else the boxes hold are left out.
pub(in crate::imaging) fn codestream(bytes: &[u8]) -> Result<Cow<'_, [u8]>, &'static str> {
    if bytes.starts_with(START) {
        return Ok(Cow::Borrowed(bytes));
    }
    let mut rest = bytes.strip_prefix(CONTAINER).ok_or("it does not start as JPEG XL does")?;
    let mut codestream = Vec::new();
    while let Some((kind, content, after)) = next_box(rest) {
        match &kind {
            b"jxlc" => codestream.extend_from_slice(content),
            // Parts begin with their number.
            b"jxlp" => codestream.extend_from_slice(content.get(4..).unwrap_or_default()),
            _ => {}
        }
        rest = after;
    }
    if codestream.is_empty() { Err("no box holds a picture") } else { Ok(Cow::Owned(codestream)) }
}

/// The first box: its kind, its content, and what follows it.
fn next_box(bytes: &[u8]) -> Option<([u8; 4], &[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (kind, rest) = rest.split_first_chunk::<4>()?;
    let (size, rest) = match u32::from_be_bytes(*length) {
        0 => (rest.len(), rest),
        1 => {
            let (long, rest) = rest.split_first_chunk::<8>()?;
            (usize::try_from(u64::from_be_bytes(*long)).ok()?.checked_sub(16)?, rest)
        }
        length => ((length as usize).checked_sub(8)?, rest),
    };
    let (content, after) = rest.split_at_checked(size)?;
    Some((*kind, content, after))
}

/// The facts that a codestream tells of its picture. Only still pictures as they are to be seen are
/// read: what is rotated, animated, floating point or has channels beside its colours is refused.
pub(in crate::imaging) fn facts(codestream: &[u8]) -> Result<Facts, &'static str> {
    let header = codestream.strip_prefix(START).ok_or("it does not start as JPEG XL does")?;
    let mut bits = Bits::new(header);
    let (width, height) = size(&mut bits).ok_or(CUT)?;
    // ImageMetadata (D.3); what is not said is an 8-bit picture in colours.
    if bits.flag().ok_or(CUT)? {
        return Ok(Facts { width, height, components: 3, precision: 8 });
    }
    if bits.flag().ok_or(CUT)? {
        let rotation = bits.take(3).ok_or(CUT)?;
        let has_size = bits.flag().ok_or(CUT)?;
        if has_size {
            size(&mut bits).ok_or(CUT)?;
        }
        let has_preview = bits.flag().ok_or(CUT)?;
        let is_animated = !has_preview && bits.flag().ok_or(CUT)?;
        if rotation != 0 || has_preview || is_animated {
            return Err("it is rotated, animated or has a preview");
        }
    }
    if bits.flag().ok_or(CUT)? {
        return Err("its samples are floating-point numbers");
    }
    let precision = bits.choice([(8, 0), (10, 0), (12, 0), (1, 6)]).ok_or(CUT)?;
    let _wide_buffers = bits.flag().ok_or(CUT)?;
    if bits.choice([(0, 0), (1, 0), (2, 4), (1, 12)]).ok_or(CUT)? != 0 {
        return Err("it has channels beside its colours");
    }
    let _is_xyb = bits.flag().ok_or(CUT)?;
    let is_usual = bits.flag().ok_or(CUT)?;
    let components = if is_usual {
        3
    } else {
        let _has_profile = bits.flag().ok_or(CUT)?;
        // ColourSpace: 1 is grey.
        let space = bits.choice([(0, 0), (1, 0), (2, 4), (18, 6)]).ok_or(CUT)?;
        if space == 1 { 1 } else { 3 }
    };
    Ok(Facts { width, height, components, precision })
}

const CUT: &str = "its header is cut short";

/// SizeHeader (D.2).
fn size(bits: &mut Bits<'_>) -> Option<(u32, u32)> {
    let in_eights = bits.flag()?;
    let side = |bits: &mut Bits<'_>| {
        if in_eights {
            bits.take(5).map(|eighths| (eighths + 1) * 8)
        } else {
            bits.choice([(1, 9), (1, 13), (1, 18), (1, 30)])
        }
    };
    let height = side(bits)?;
    let scaled = |of: u64, over: u64| u32::try_from(u64::from(height) * of / over).ok();
    let width = match bits.take(3)? {
        0 => side(bits)?,
        1 => height,
        2 => scaled(12, 10)?,
        3 => scaled(4, 3)?,
        4 => scaled(3, 2)?,
        5 => scaled(16, 9)?,
        6 => scaled(5, 4)?,
        _ => scaled(2, 1)?,
    };
    Some((width, height))
}

#[cfg(test)]
mod tests {
    use super::{CONTAINER, codestream, facts};
    use crate::imaging::codestream::Facts;

    #[test]
    fn only_the_codestream_is_taken_of_a_container() {
        let part = |kind: &[u8], content: &[u8]| {
            [&(content.len() as u32 + 8).to_be_bytes()[..], kind, content].concat()
        };
        let file = [
            CONTAINER,
            &part(b"xml ", b"<name>DOE</name>"),
            &part(b"jxlp", b"\0\0\0\0\xFF\x0A"),
            &part(b"Exif", b"DOE"),
            &part(b"jxlp", b"\x80\0\0\x01rest"),
        ];

        assert_eq!(codestream(&file.concat()).as_deref(), Ok(&b"\xFF\x0Arest"[..]));
        assert!(codestream(CONTAINER).is_err());
        assert!(codestream(b"\xFF\xD8").is_err());
    }

    #[test]
    fn sizes_are_read_in_each_of_their_forms() {
        // In eights: 1, 00111 (64), ratio 1 (the same), then the defaults: 1.
        let header = 1_u32 | 7 << 1 | 1 << 6 | 1 << 9;
        let square = [&[0xFF, 0x0A], &header.to_le_bytes()[..]].concat();
        assert_eq!(
            facts(&square),
            Ok(Facts { width: 64, height: 64, components: 3, precision: 8 })
        );
        // 0, 00 and 9 bits (100 - 1), ratio 0, the width in 13 bits (1000 - 1), 0 metadata, 0 fields,
        // 0 integers, 10 (12 bits), 1, 00 channels, 0 XYB, 0, 0 profile, 01 grey.
        let mut bits = vec![];
        for (value, count) in [
            (0, 1),
            (0, 2),
            (99_u32, 9),
            (0, 3),
            (1, 2),
            (999, 13),
            (0, 1),
            (0, 1),
            (0, 1),
            (2, 2),
            (1, 1),
            (0, 2),
            (0, 1),
            (0, 1),
            (0, 1),
            (1, 2),
        ] {
            bits.extend((0..count).map(|place| value >> place & 1));
        }
        let bytes = bits.chunks(8).map(|eight| {
            eight.iter().enumerate().fold(0_u8, |byte, (at, bit)| byte | (*bit as u8) << at)
        });
        let wide: Vec<u8> = [0xFF, 0x0A].into_iter().chain(bytes).collect();
        assert_eq!(
            facts(&wide),
            Ok(Facts { width: 1000, height: 100, components: 1, precision: 12 })
        );
        assert!(facts(&wide[..5]).is_err());
    }
}
