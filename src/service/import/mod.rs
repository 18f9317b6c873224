//! Importing a backbone: a stranger's checkpoint becomes stored weights, an ONNX file and a row.

mod error;
mod importer;
mod transcribe;

pub use error::ImportError;
pub use importer::{ImportRequest, Importer, RandomRequest, TEXT_MAX};
pub(crate) use transcribe::trained;
pub use transcribe::{Transcribed, Transcription, transcribe};
