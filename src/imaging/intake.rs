//! One uploaded file: what it is, what it shows, whom it shows, and what may be kept of it.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use super::dicom::{self, Identifiers, strip_dicom, with_object};
use super::foreign::Foreign;
use super::picture::Picture;
use super::segments::{strip_jpeg, strip_png};
use super::{ImagingError, raster};
use crate::config::Limits;
use crate::domain::image::{Format, Window};

/// Modalities of objects that are computed or drawn.
const MADE: &[&str] = &["SEG", "RTDOSE", "RTSTRUCT", "RTSEGANN", "M3D", "REG"];

/// The facts that are recorded of each picture of a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FrameFacts {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// The first window recorded for it.
    pub window: Option<Window>,
    /// DICOM modality.
    pub modality: Option<String>,
}

/// A file that was read.
#[derive(Debug, Clone)]
pub struct TakenFile {
    /// The format of it.
    pub format: Format,
    /// The original, de-identified: all that may be stored.
    pub stored: Vec<u8>,
    /// Its pictures; every one was decoded once.
    pub frames: Vec<FrameFacts>,
    /// Whom it shows; never to be stored or shown.
    pub identifiers: Identifiers,
    /// The notices that a person should have about it.
    pub notices: Vec<String>,
}

/// The format of the bytes, by content and never by name.
pub fn sniff(bytes: &[u8]) -> Option<Format> {
    if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        Some(Format::Png)
    } else if bytes.starts_with(&[0xFF, 0xD8, 0xFF]) {
        Some(Format::Jpeg)
    } else if dicom::is_dicom(bytes) {
        Some(Format::Dicom)
    } else {
        None
    }
}

/// Decodes one picture of a file.
pub fn decode_frame(bytes: &[u8], frame: u32, limits: &Limits) -> Result<Picture, ImagingError> {
    match known(bytes)? {
        Format::Dicom => with_object(bytes, limits, |object| {
            dicom::frame(&object, &dicom::header(&object, limits)?, frame)
        }),
        Format::Png | Format::Jpeg if frame > 0 => {
            Err(ImagingError::NoSuchFrame { frame, frames: 1 })
        }
        format @ (Format::Png | Format::Jpeg) => raster::decode(bytes, format, limits),
    }
}

/// Hands each picture of a file to `then`, one after another; it may stop the work.
pub fn for_each_picture(
    bytes: &[u8],
    limits: &Limits,
    then: &mut (dyn FnMut(u32, Picture) -> Result<ControlFlow<()>, ImagingError> + Send),
) -> Result<(), ImagingError> {
    match known(bytes)? {
        Format::Dicom => with_object(bytes, limits, |object| {
            let header = dicom::header(&object, limits)?;
            for frame in 0..header.frames {
                if then(frame, dicom::frame(&object, &header, frame)?)?.is_break() {
                    break;
                }
            }
            Ok(())
        }),
        format @ (Format::Png | Format::Jpeg) => {
            then(0, raster::decode(bytes, format, limits)?).map(drop)
        }
    }
}

/// Decodes every picture of a file.
pub fn decode_all(bytes: &[u8], limits: &Limits) -> Result<Vec<Picture>, ImagingError> {
    match known(bytes)? {
        Format::Dicom => with_object(bytes, limits, |object| {
            let header = dicom::header(&object, limits)?;
            (0..header.frames).map(|frame| dicom::frame(&object, &header, frame)).collect()
        }),
        format @ (Format::Png | Format::Jpeg) => Ok(vec![raster::decode(bytes, format, limits)?]),
    }
}

/// Reads all that there is to know of an uploaded file and strips it of identity.
pub fn take_in(bytes: &[u8], limits: &Limits) -> Result<TakenFile, ImagingError> {
    match known(bytes)? {
        Format::Dicom => take_in_dicom(bytes, limits),
        Format::Png => {
            let stored = strip_png(bytes, limits)?;
            let frames = vec![facts(&raster::decode(&stored, Format::Png, limits)?)];
            Ok(taken(Format::Png, stored, frames, Vec::new()))
        }
        Format::Jpeg => {
            let (stored, rotated) = strip_jpeg(bytes, limits)?;
            let frames = vec![facts(&raster::decode(&stored, Format::Jpeg, limits)?)];
            let notice = "its EXIF data asked viewers to rotate it; it is used as it is stored";
            let notices = rotated.then(|| notice.to_owned()).into_iter().collect();
            Ok(taken(Format::Jpeg, stored, frames, notices))
        }
    }
}

fn take_in_dicom(bytes: &[u8], limits: &Limits) -> Result<TakenFile, ImagingError> {
    with_object(bytes, limits, |object| {
        let header = dicom::header(&object, limits)?;
        let frames = (0..header.frames)
            .map(|frame| dicom::frame(&object, &header, frame).map(|picture| facts(&picture)))
            .collect::<Result<_, _>>()?;
        let mut notices = Vec::new();
        let burned = dicom::code(&object, dicom_dictionary_std::tags::BURNED_IN_ANNOTATION);
        if burned.as_deref() == Some("YES") {
            notices.push("it says that text is burned into its pixels; look at it".to_owned());
        }
        let modality = dicom::code(&object, dicom_dictionary_std::tags::MODALITY);
        if let Some(made) = modality.filter(|modality| MADE.contains(&modality.as_str())) {
            notices.push(format!(
                "it is of modality {made}: made from pictures rather than taken of a patient; leave \
                 such files out unless a model is to learn from them"
            ));
        }
        let stored = strip_dicom(&object, &header)?;
        let identifiers = Identifiers::of(&object);
        Ok(TakenFile { format: Format::Dicom, stored, frames, identifiers, notices })
    })
}

/// The format of the bytes; an error when they are nothing that is read here. The first
/// [`SNIFFED_BYTES`](super::SNIFFED_BYTES) of a file are enough.
pub(super) fn known(bytes: &[u8]) -> Result<Format, ImagingError> {
    if bytes.is_empty() {
        return Err(ImagingError::Empty);
    }
    sniff(bytes).ok_or_else(|| match Foreign::of(bytes) {
        Some(kind) => ImagingError::Foreign(kind),
        None => ImagingError::UnknownFormat,
    })
}

fn facts(picture: &Picture) -> FrameFacts {
    FrameFacts {
        width: picture.width,
        height: picture.height,
        window: picture.window,
        modality: picture.modality.clone(),
    }
}

fn taken(
    format: Format,
    stored: Vec<u8>,
    frames: Vec<FrameFacts>,
    notices: Vec<String>,
) -> TakenFile {
    TakenFile { format, stored, frames, identifiers: Identifiers::default(), notices }
}
