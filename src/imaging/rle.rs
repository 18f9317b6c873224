//! Run-length encoded frames (PS3.5 Annex G), of any sample width.

use super::ImagingError;

/// The header: a count and 15 offsets.
const HEADER_BYTES: usize = 64;

/// What a frame must decode to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) pixels: usize,
    pub(super) samples: usize,
    /// Bytes of a sample.
    pub(super) width: usize,
}

/// Decodes a frame into interleaved little-endian samples.
pub(super) fn decode(frame: &[u8], shape: Shape) -> Result<Vec<u8>, ImagingError> {
    let Shape { pixels, samples, width } = shape;
    let planes = samples * width;
    let offsets = offsets(frame)?;
    if offsets.len() != planes {
        let found = offsets.len();
        return Err(broken(&format!("{found} run-length segments where {planes} are needed")));
    }
    let mut data = vec![0; pixels * planes];
    for (plane, start) in offsets.iter().enumerate() {
        let end = offsets.get(plane + 1).copied().unwrap_or(frame.len());
        let segment = frame.get(*start..end).ok_or_else(|| broken("a segment outside of it"))?;
        // Segments go by sample, and in each from the most significant byte down (G.2).
        let at = plane / width * width + (width - 1 - plane % width);
        let mut places = data.iter_mut().skip(at).step_by(planes);
        if !unpack(segment, &mut places) {
            return Err(broken("a run-length segment that is too short"));
        }
    }
    Ok(data)
}

fn offsets(frame: &[u8]) -> Result<Vec<usize>, ImagingError> {
    let header = frame.get(..HEADER_BYTES).ok_or_else(|| broken("no run-length header"))?;
    let mut words = header
        .chunks_exact(4)
        .map(|four| u32::from_le_bytes([four[0], four[1], four[2], four[3]]) as usize);
    let count = words.next().filter(|count| *count < 16);
    Ok(words.take(count.ok_or_else(|| broken("too many run-length segments"))?).collect())
}

/// Unpacks a segment into the places (G.3.2); whether it filled them all.
fn unpack<'a>(segment: &[u8], places: &mut impl Iterator<Item = &'a mut u8>) -> bool {
    let mut rest = segment;
    while let [control, tail @ ..] = rest {
        let control = *control as i8;
        let (run, used): (&mut dyn Iterator<Item = u8>, usize) = match (control, tail) {
            (0.., _) => {
                let length = (control as usize + 1).min(tail.len());
                (&mut tail[..length].iter().copied(), length)
            }
            (-127..=-1, [byte, ..]) => {
                (&mut std::iter::repeat_n(*byte, usize::from(control.unsigned_abs()) + 1), 1)
            }
            // -128 says nothing.
            (i8::MIN, _) => (&mut std::iter::empty(), 0),
            (_, []) => return false,
        };
        for byte in run {
            let Some(place) = places.next() else { return true };
            *place = byte;
        }
        rest = &tail[used..];
    }
    places.next().is_none()
}

fn broken(what: &str) -> ImagingError {
    ImagingError::PixelData(format!("it has {what}"))
}

#[cfg(test)]
mod tests {
    use super::{Shape, decode};

    fn frame(segments: &[&[u8]]) -> Vec<u8> {
        let mut header = vec![segments.len() as u32];
        let mut start = 64;
        for segment in segments {
            header.push(start);
            start += segment.len() as u32;
        }
        header.resize(16, 0);
        let header = header.into_iter().flat_map(u32::to_le_bytes);
        header.chain(segments.concat()).collect()
    }

    #[test]
    fn runs_and_copies_of_both_bytes_are_put_together() {
        // PS3.5 G.3: a control byte of n copies n + 1 bytes, one of -n repeats a byte n + 1 times.
        let high: &[u8] = &[0xFE, 1];
        let low: &[u8] = &[0x80, 2, 7, 8, 9];
        let shape = Shape { pixels: 3, samples: 1, width: 2 };

        let data = decode(&frame(&[high, low]), shape).expect("decoded");

        assert_eq!(data, [7, 1, 8, 1, 9, 1]);
    }

    #[test]
    fn a_frame_that_holds_too_little_is_refused() {
        let shape = Shape { pixels: 3, samples: 1, width: 1 };

        for bytes in [&[][..], &[0xFF, 7], &[0xFE], &[5, 1]] {
            assert!(decode(&frame(&[bytes]), shape).is_err(), "{bytes:?}");
        }
        assert!(decode(&frame(&[&[2, 1, 2, 3], &[2, 1, 2, 3]]), shape).is_err());
        assert!(decode(&[1, 0, 0], shape).is_err());
    }
}
