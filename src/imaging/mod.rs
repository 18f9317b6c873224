//! Bytes into pictures: sniffing, decoding, de-identification, archives, windowing, preparation.

pub mod archive;
mod codec;
mod codestream;
mod dicom;
pub mod error;
mod escaped;
mod folded;
pub mod foreign;
pub mod intake;
pub mod labels;
mod leak;
pub mod patient;
pub mod picture;
pub mod prepare;
pub mod progress;
pub mod raster;
pub mod render;
mod segments;
pub mod upload;

pub use dicom::{Identifiers, deep};
pub use error::ImagingError;
pub use intake::{
    FrameFacts, TakenFile, decode_all, decode_frame, for_each_picture, sniff, take_in,
};
pub use patient::PatientHasher;
pub use picture::{Picture, Samples};
pub use prepare::{normalise, prepare, resize, square};
pub use progress::UploadProgress;
pub use render::render_png;
pub use upload::{
    Found, KeptFile, Listener, RejectedEntry, UploadContext, UploadError, read_upload,
};

/// First bytes of a file that tell what it is.
pub const SNIFFED_BYTES: u64 = 512;
