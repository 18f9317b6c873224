//! Bytes into pictures: sniffing, decoding, de-identification, archives, windowing, preparation.

pub mod archive;
mod canon;
mod codestream;
pub mod deidentify;
pub mod dicom;
mod element;
pub mod error;
pub mod guard;
pub mod intake;
pub mod labels;
pub mod patient;
pub mod picture;
mod pixel_data;
mod pixels;
pub mod prepare;
pub mod raster;
pub mod render;
mod rle;
mod salvage;
mod segments;
mod stored;
mod table;
pub mod upload;
pub mod walk;

pub use error::ImagingError;
pub use intake::{FrameFacts, TakenFile, decode_all, decode_frame, sniff, take_in};
pub use patient::{Identifiers, PatientHasher};
pub use picture::{Picture, Samples};
pub use prepare::{normalise, prepare, resize, square};
pub use render::render_png;
pub use upload::{KeptFile, UploadContext, UploadError, UploadSummary, read_upload};
