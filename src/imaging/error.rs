//! The reasons why a file gives no picture, in words that go on after its name. No message ever
//! quotes what the file says of a patient.

use super::foreign::Foreign;
use crate::domain::Size;

/// The reason why a file gives no picture.
#[derive(Debug, thiserror::Error)]
pub enum ImagingError {
    /// Neither PNG nor JPEG nor DICOM, whatever its name says.
    #[error("is not a PNG, JPEG or DICOM file")]
    UnknownFormat,
    /// Another format, which is known by name.
    #[error("is {0}")]
    Foreign(Foreign),
    /// The file has no content.
    #[error("is empty")]
    Empty,
    /// A PNG or JPEG that does not decode.
    #[error("cannot be decoded as {format}: {reason}")]
    Raster {
        /// `PNG` or `JPEG`.
        format: &'static str,
        /// The words of the decoder.
        reason: String,
    },
    /// More pixels than allowed.
    #[error("has {width} x {height} pixels; the limit is {max} pixels (LVMED_LIMIT_PIXELS)")]
    TooManyPixels {
        /// Width.
        width: u64,
        /// Height.
        height: u64,
        /// The limit.
        max: u64,
    },
    /// More frames than allowed.
    #[error("has more than {max} frames, which is the limit (LVMED_LIMIT_FRAMES)")]
    TooManyFrames {
        /// Frames declared. Not repeated: it is text in the file, and could be any number.
        found: u64,
        /// The limit.
        max: u32,
    },
    /// Would take too much memory once decoded.
    #[error(
        "takes {} once decoded; the limit is {} (LVMED_LIMIT_DECODED_BYTES)", Size(*found), Size(*max)
    )]
    TooManyBytes {
        /// Bytes it would take.
        found: u64,
        /// The limit.
        max: u64,
    },
    /// No such frame.
    #[error("has no frame {}; it has {}", frame + 1, counted(*frames))]
    NoSuchFrame {
        /// Frame asked for, from 0.
        frame: u32,
        /// Frames there are.
        frames: u32,
    },
    /// The DICOM structure is broken or hostile.
    #[error("is a damaged DICOM file: {0}")]
    BrokenDicom(String),
    /// Nested too deeply or split into too many elements.
    #[error("has {what} beyond the limit of {max} ({setting})")]
    TooComplex {
        /// The thing that there is too much of.
        what: &'static str,
        /// The limit.
        max: u64,
        /// The setting that raises it.
        setting: &'static str,
    },
    /// A DICOM object without pixels: a report, a plan, a waveform.
    #[error("is a DICOM object without pixel data")]
    NoPixels,
    /// Compressed in a way that is not decoded here.
    #[error("is compressed {0}, which this server does not decode; export it uncompressed")]
    TransferSyntax(&'static str),
    /// A colour model or bit depth that is not understood.
    #[error("has pixels that are not supported: {0}")]
    Unsupported(String),
    /// The pixel data does not decode.
    #[error("has pixel data that cannot be decoded: {0}")]
    PixelData(String),
    /// The decoder failed in a way that it should not.
    #[error("made the decoder fail; the file is probably damaged")]
    DecoderFailed,
    /// The picture cannot be brought to the wanted size.
    #[error("cannot be resized: {0}")]
    Resize(String),
}

fn counted(frames: u32) -> String {
    if frames == 1 { "1 frame".to_owned() } else { format!("{frames} frames") }
}
