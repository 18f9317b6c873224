//! Uploaded PNG and JPEG files with what makes up their picture, and nothing else.

use std::io::{Cursor, Read, Write};

use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use flate2::{Compression, Crc, Decompress, FlushDecompress, Status};
use image::{DynamicImage, ImageFormat};

use super::codestream::{Facts, jpeg};
use super::foreign::Foreign;
use super::{ImagingError, codec};
use crate::config::Limits;

const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

fn broken_png(reason: &str) -> ImagingError {
    ImagingError::Raster { format: "PNG", reason: reason.to_owned() }
}

/// A JPEG without its application data and comments, and whether those asked for a rotation.
pub(super) fn strip_jpeg(bytes: &[u8], limits: &Limits) -> Result<(Vec<u8>, bool), ImagingError> {
    // SOF55 starts a frame of JPEG-LS (ITU-T T.87 C.1.1), of which more need not be there.
    let starts_as_ls = bytes.starts_with(&[0xFF, 0xD8, 0xFF, 0xF7]);
    let broken = |reason: &str| {
        if starts_as_ls || reason == jpeg::JPEG_LS {
            ImagingError::Foreign(Foreign::JpegLs)
        } else {
            ImagingError::Raster { format: "JPEG", reason: reason.to_owned() }
        }
    };
    let Facts { width, height, .. } = jpeg::facts(bytes).map_err(broken)?;
    codec::check_size((width, height), limits)?;
    let clean = jpeg::clean(bytes).map_err(broken)?;
    Ok((clean.bytes, clean.rotated))
}

/// A PNG with its picture alone: header, number of significant bits, data.
pub(super) fn strip_png(bytes: &[u8], limits: &Limits) -> Result<Vec<u8>, ImagingError> {
    let png = Png::read(bytes)?;
    codec::check_size((png.width, png.height), limits)?;
    if !png.is_plain() {
        return encoded_anew(bytes, limits);
    }
    let raw_bytes = png.raw_bytes();
    let data = if ends_with_picture(&png.data, raw_bytes)? {
        png.data
    } else {
        // Bytes after the picture, packed or not: it is packed anew without them.
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        let mut picture = ZlibDecoder::new(png.data.as_slice()).take(raw_bytes);
        std::io::copy(&mut picture, &mut encoder)
            .and_then(|_| encoder.flush())
            .and_then(|()| encoder.finish())
            .map_err(|_| broken_png("its data do not inflate"))?
    };
    let mut kept = SIGNATURE.to_vec();
    write_chunk(&mut kept, *b"IHDR", &png.header);
    if let Some(bits) = png.significant_bits {
        write_chunk(&mut kept, *b"sBIT", &bits);
    }
    write_chunk(&mut kept, *b"IDAT", &data);
    write_chunk(&mut kept, *b"IEND", &[]);
    Ok(kept)
}

/// The parts that are needed of a PNG's chunks.
struct Png {
    header: [u8; 13],
    width: u32,
    height: u32,
    significant_bits: Option<Vec<u8>>,
    /// Of all IDAT chunks.
    data: Vec<u8>,
}

impl Png {
    fn read(bytes: &[u8]) -> Result<Self, ImagingError> {
        let mut rest =
            bytes.strip_prefix(SIGNATURE).ok_or_else(|| broken_png("it is cut short"))?;
        let (mut header, mut significant_bits, mut data) = (None, None, Vec::new());
        loop {
            let cut = || broken_png("it ends without IEND");
            let (length, after) = rest.split_first_chunk::<4>().ok_or_else(cut)?;
            let (kind, after) = after.split_first_chunk::<4>().ok_or_else(cut)?;
            let length = u32::from_be_bytes(*length) as usize;
            let (content, after) =
                after.split_at_checked(length).ok_or_else(|| broken_png("it is cut short"))?;
            let (sum, after) = after.split_first_chunk::<4>().ok_or_else(cut)?;
            match kind {
                b"IHDR" | b"IDAT" if checksum(*kind, content) != *sum => {
                    return Err(broken_png("a checksum is wrong"));
                }
                b"IHDR" => header = header.or_else(|| content.first_chunk::<13>().copied()),
                b"sBIT" => significant_bits = Some(content.to_vec()),
                b"IDAT" => data.extend_from_slice(content),
                b"IEND" => break,
                _ => {}
            }
            rest = after;
        }
        let header = header.ok_or_else(|| broken_png("it has no header"))?;
        let [w3, w2, w1, w0, h3, h2, h1, h0, ..] = header;
        let width = u32::from_be_bytes([w3, w2, w1, w0]);
        let height = u32::from_be_bytes([h3, h2, h1, h0]);
        if width == 0 || height == 0 {
            return Err(broken_png("its header says no size"));
        }
        let mut png = Self { header, width, height, significant_bits, data };
        let (channels, depth) = (png.channels(), png.depth());
        let is_told = |bits: &Vec<u8>| {
            bits.len() == channels as usize && bits.iter().all(|bits| (1..=depth).contains(bits))
        };
        png.significant_bits = png.significant_bits.filter(is_told);
        Ok(png)
    }

    fn depth(&self) -> u8 {
        self.header[8]
    }

    fn channels(&self) -> u64 {
        if self.header[9] == 2 { 3 } else { 1 }
    }

    /// Whether every bit of its data shows: grey or colours in whole bytes, without a palette of which
    /// entries may be unused, without an alpha channel that nobody sees.
    fn is_plain(&self) -> bool {
        matches!(self.depth(), 8 | 16) && matches!(self.header[9], 0 | 2)
    }

    /// Bytes that its data inflate to (PNG 9.2 and 8.2).
    fn raw_bytes(&self) -> u64 {
        /// Adam7: where each pass starts, and its steps.
        const PASSES: [(u64, u64, u64, u64); 7] = [
            (0, 0, 8, 8),
            (4, 0, 8, 8),
            (0, 4, 4, 8),
            (2, 0, 4, 4),
            (0, 2, 2, 4),
            (1, 0, 2, 2),
            (0, 1, 1, 2),
        ];
        let pixel = self.channels() * u64::from(self.depth()) / 8;
        let rows =
            |width: u64, height: u64| if width == 0 { 0 } else { height * (1 + width * pixel) };
        let (width, height) = (u64::from(self.width), u64::from(self.height));
        if self.header[12] == 0 {
            return rows(width, height);
        }
        let pass = |(x, y, across, down): (u64, u64, u64, u64)| {
            rows(width.saturating_sub(x).div_ceil(across), height.saturating_sub(y).div_ceil(down))
        };
        PASSES.into_iter().map(pass).sum()
    }
}

/// Whether the data inflate to the picture and end with it. Data that hold less are refused.
fn ends_with_picture(data: &[u8], raw_bytes: u64) -> Result<bool, ImagingError> {
    let mut inflater = Decompress::new(true);
    let mut scratch = vec![0; 64 << 10];
    loop {
        let (read, written) = (inflater.total_in(), inflater.total_out());
        let rest = data.get(read as usize..).unwrap_or_default();
        let status = inflater
            .decompress(rest, &mut scratch, FlushDecompress::None)
            .map_err(|_| broken_png("its data do not inflate"))?;
        let (has_all, is_over) =
            (inflater.total_out() >= raw_bytes, inflater.total_out() > raw_bytes);
        if is_over {
            return Ok(false);
        }
        if status == Status::StreamEnd {
            let ends = inflater.total_in() == data.len() as u64;
            return if has_all { Ok(ends) } else { Err(broken_png("it has too few data")) };
        }
        if (inflater.total_in(), inflater.total_out()) == (read, written) {
            // A stream without its end: decoders take what is there.
            return if has_all { Ok(false) } else { Err(broken_png("it has too few data")) };
        }
    }
}

/// The picture that a decoder gives, as a PNG of its own.
fn encoded_anew(bytes: &[u8], limits: &Limits) -> Result<Vec<u8>, ImagingError> {
    let picture = match codec::pixels(bytes, ImageFormat::Png, limits)? {
        DynamicImage::ImageLuma8(grey) => DynamicImage::ImageLuma8(grey),
        grey @ DynamicImage::ImageLumaA8(_) => DynamicImage::ImageLuma8(grey.to_luma8()),
        grey @ (DynamicImage::ImageLuma16(_) | DynamicImage::ImageLumaA16(_)) => {
            DynamicImage::ImageLuma16(grey.to_luma16())
        }
        colour @ (DynamicImage::ImageRgb16(_) | DynamicImage::ImageRgba16(_)) => {
            DynamicImage::ImageRgb16(colour.to_rgb16())
        }
        colour => DynamicImage::ImageRgb8(colour.to_rgb8()),
    };
    let mut png = Cursor::new(Vec::new());
    picture.write_to(&mut png, ImageFormat::Png).map_err(|_| broken_png("it cannot be stored"))?;
    Ok(png.into_inner())
}

fn checksum(kind: [u8; 4], content: &[u8]) -> [u8; 4] {
    let mut sum = Crc::new();
    sum.update(&kind);
    sum.update(content);
    sum.sum().to_be_bytes()
}

fn write_chunk(out: &mut Vec<u8>, kind: [u8; 4], content: &[u8]) {
    out.extend((content.len() as u32).to_be_bytes());
    out.extend(kind);
    out.extend_from_slice(content);
    out.extend(checksum(kind, content));
}
