//! The messages between the server and a child: what is asked of it, and what it tells.

use serde::{Deserialize, Serialize};

use super::confine::Confined;
use crate::config::Limits;
use crate::domain::image::Window;
use crate::domain::{Preprocessing, Split};
use crate::imaging::Found;
use crate::nn::weights::{ReadOptions, WeightsError};

/// The question to a child; the file that it is about travels beside it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Ask {
    /// The first message: what holds for all others.
    Settings {
        /// The limits.
        limits: Box<Limits>,
        /// Address space that it may use beyond what the program takes.
        memory_bytes: u64,
    },
    /// Every picture of a file as a network's input.
    Inputs {
        /// The preparation of them.
        preprocessing: Preprocessing,
    },
    /// One picture of a file as a PNG.
    Preview {
        /// Frame within the file, from 0.
        frame: u32,
        /// The window, unless it is the recorded one.
        window: Option<Window>,
        /// Longest side.
        max_side: u32,
    },
    /// All files of an upload.
    Upload(UploadAsk),
    /// The weights of the checkpoint that the child was started for, written to the file beside
    /// this message as safetensors.
    Checkpoint(ReadOptions),
}

/// The settings that an upload is read with.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct UploadAsk {
    /// The name that the client gave it.
    pub name: String,
    /// Class of files that neither a row nor a folder gives one.
    pub label: Option<String>,
    /// Patient of the files that do not say.
    pub patient: Option<String>,
    /// Split of files that neither a row nor a folder gives one.
    pub split: Option<Split>,
    /// The first entry of an archive that is read.
    pub first_entry: u64,
}

/// The answer of a child; bytes may follow.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Tell {
    /// It has read its settings and confined itself.
    Ready(Confined),
    /// A picture as a network's input: 32-bit numbers, little endian.
    Input {
        /// Frame within the file, from 0.
        frame: u32,
    },
    /// A PNG.
    Preview,
    /// A finding in an upload; the bytes of a kept file follow.
    Found(Found),
    /// Nothing more comes.
    Done,
    /// The whole file is refused, in words that go on after its name.
    Refused(String),
    /// The checkpoint is refused.
    BadWeights(WeightsError),
    /// The notices of what was left out of a checkpoint or changed.
    Weights {
        /// Its architecture.
        architecture: crate::domain::Architecture,
        /// For people to read.
        notices: Vec<String>,
    },
}

/// The bytes of a kept file.
#[derive(Debug)]
pub enum Stored {
    /// No file that is kept was found.
    Nothing,
    /// A small file.
    Memory(Vec<u8>),
    /// A large one.
    Spooled(tempfile::NamedTempFile),
}

/// A picture as a network's input.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// Frame within the file, from 0.
    pub frame: u32,
    /// `[3, size, size]`.
    pub input: Vec<f32>,
}
