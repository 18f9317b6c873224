//! Run-length encoded frames (PS3.5 Annex G), of any sample width.

use crate::imaging::error::ImagingError;

/// The header: a count and 15 offsets.
const HEADER_BYTES: usize = 64;

/// The shape that a frame must decode to.
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

/// Encodes interleaved little-endian samples: the one encoding of a picture, with nothing beside it.
pub(super) fn encode(data: &[u8], shape: Shape) -> Vec<u8> {
    let Shape { samples, width, .. } = shape;
    let planes = samples * width;
    let mut frame = vec![0; HEADER_BYTES];
    let mut plane_bytes = Vec::with_capacity(data.len() / planes.max(1));
    let mut words = vec![planes as u32];
    for plane in 0..planes {
        words.push(frame.len() as u32);
        let at = plane / width * width + (width - 1 - plane % width);
        plane_bytes.clear();
        plane_bytes.extend(data.iter().skip(at).step_by(planes));
        pack(&plane_bytes, &mut frame);
        // Segments are of even length (G.2).
        if !frame.len().is_multiple_of(2) {
            frame.push(0);
        }
    }
    for (place, word) in frame.chunks_exact_mut(4).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    frame
}

/// Packs bytes as runs and copies (G.3.1).
fn pack(mut bytes: &[u8], out: &mut Vec<u8>) {
    const MOST: usize = 128;
    let run_of = |bytes: &[u8]| {
        let same = |first: u8| bytes.iter().take(MOST).take_while(|byte| **byte == first).count();
        bytes.first().map_or(0, |first| same(*first))
    };
    while let Some(first) = bytes.first() {
        let run = run_of(bytes);
        let length = if run > 2 {
            out.extend([(1_i16 - run as i16) as u8, *first]);
            run
        } else {
            // A copy goes on until a run pays.
            let pays = (1..bytes.len().min(MOST)).find(|at| {
                bytes
                    .get(*at..at + 3)
                    .is_some_and(|three| three.iter().all(|byte| *byte == three[0]))
            });
            let length = pays.unwrap_or(bytes.len().min(MOST));
            out.push((length - 1) as u8);
            out.extend_from_slice(bytes.get(..length).unwrap_or_default());
            length
        };
        bytes = bytes.get(length..).unwrap_or_default();
    }
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
    use proptest::prelude::*;

    use super::{Shape, decode, encode};

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

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(
            data in prop::collection::vec(prop::sample::select(vec![0_u8, 0, 0, 1, 2, 255]), 0..200),
            (samples, width) in prop::sample::select(vec![(1, 1), (1, 2), (3, 1), (3, 2), (1, 4)]),
        ) {
            let pixels = data.len() * 3 / (samples * width);
            let shape = Shape { pixels, samples, width };
            let data: Vec<u8> = data.iter().cycle().take(pixels * samples * width).copied().collect();

            let decoded = decode(&encode(&data, shape), shape);

            prop_assert_eq!(decoded.ok(), Some(data));
        }
    }
}
