//! The child: confines itself, then does what it is asked until its socket is closed.

use std::fs::File;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::confine::confine;
use super::message::{Ask, Tell, UploadAsk};
use super::wire;
use crate::config::Limits;
use crate::domain::Preprocessing;
use crate::imaging::{
    Found, ImagingError, UploadContext, decode_frame, deep, for_each_picture, prepare, read_upload,
    render_png,
};
use crate::nn::weights::{self, ReadOptions, WeightsError};

/// Serves as a child over standard input, a socket, until that is closed. `checkpoint` is the one
/// file that can be opened by its path.
pub fn main(checkpoint: Option<PathBuf>) -> io::Result<()> {
    // What a panic says may quote the file, and nobody reads it.
    std::panic::set_hook(Box::new(|_| {}));
    close_inherited();
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let Ask::Settings { limits, memory_bytes } = wire::receive(&mut &socket)?.said else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let confined = confine(memory_bytes, checkpoint.as_deref())?;
    wire::send(&mut &socket, &Tell::Ready(confined), &[])?;
    let child = Child { socket, limits: *limits, checkpoint };
    deep(|| child.serve()).unwrap_or_else(|| Err(io::ErrorKind::OutOfMemory.into()))
}

/// Closes what a library of the server may have left open for its children.
#[expect(unsafe_code, reason = "the only call that closes what nobody here owns")]
fn close_inherited() {
    // SAFETY: nothing but the three standard descriptors has been opened by this process yet.
    unsafe {
        libc::close_range(3, libc::c_uint::MAX, 0);
    }
}

struct Child {
    socket: UnixStream,
    limits: Limits,
    checkpoint: Option<PathBuf>,
}

impl Child {
    fn serve(&self) -> io::Result<()> {
        while let Some(descriptor) = wire::receive_descriptor(&self.socket)? {
            let ask = wire::receive::<Ask>(&mut &self.socket)?.said;
            self.answer(ask, descriptor)?;
        }
        Ok(())
    }

    fn answer(&self, ask: Ask, descriptor: OwnedFd) -> io::Result<()> {
        let file = File::from(descriptor);
        match ask {
            Ask::Settings { .. } => Err(io::ErrorKind::InvalidData.into()),
            Ask::Inputs { preprocessing } => self.inputs(file, &preprocessing),
            Ask::Preview { frame, window, max_side } => {
                let png = read(file).and_then(|bytes| {
                    let picture = decode_frame(&bytes, frame, &self.limits)?;
                    render_png(&picture, window, Some(max_side))
                });
                match png {
                    Ok(png) => self.tell(&Tell::Preview, &png),
                    Err(error) => self.tell(&Tell::Refused(error.to_string()), &[]),
                }
            }
            Ask::Upload(ask) => self.upload(file, ask),
            Ask::Checkpoint(options) => match self.checkpoint.as_deref() {
                Some(path) => self.weights(path, options, file),
                None => Err(io::ErrorKind::InvalidData.into()),
            },
        }
    }

    fn inputs(&self, file: File, preprocessing: &Preprocessing) -> io::Result<()> {
        let mut failed = None;
        let done = read(file).and_then(|bytes| {
            for_each_picture(&bytes, &self.limits, &mut |frame, picture| {
                let input = prepare(&picture, None, preprocessing)?;
                let bytes: Vec<u8> = input.iter().flat_map(|value| value.to_le_bytes()).collect();
                failed = self.tell(&Tell::Input { frame }, &bytes).err();
                Ok(if failed.is_some() {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                })
            })
        });
        match (failed, done) {
            (Some(error), _) => Err(error),
            (None, Ok(())) => self.tell(&Tell::Done, &[]),
            (None, Err(error)) => self.tell(&Tell::Refused(error.to_string()), &[]),
        }
    }

    fn upload(&self, file: File, ask: UploadAsk) -> io::Result<()> {
        let UploadAsk { name, label, patient, split, first_entry } = ask;
        let limits = &self.limits;
        let context = UploadContext { limits, label, patient, split, first_entry };
        let mut failed = None;
        let mut listener = |mut found: Found| {
            let stored = match &mut found {
                Found::Kept(kept) => std::mem::take(&mut kept.stored),
                Found::Files(_)
                | Found::Begun { .. }
                | Found::Rejected(_)
                | Found::FurtherRows(_)
                | Found::LeftOut(_) => Vec::new(),
            };
            match self.tell(&Tell::Found(found), &stored) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    failed = Some(error);
                    ControlFlow::Break(())
                }
            }
        };
        let read = read_upload(file, &name, &context, &mut listener);
        match (failed, read) {
            (Some(error), _) => Err(error),
            (None, Ok(())) => self.tell(&Tell::Done, &[]),
            (None, Err(error)) => self.tell(&Tell::Refused(error.to_string()), &[]),
        }
    }

    fn weights(&self, path: &Path, options: ReadOptions, out: File) -> io::Result<()> {
        match write_weights(path, options, out) {
            Ok((architecture, notices)) => self.tell(&Tell::Weights { architecture, notices }, &[]),
            Err(error) => self.tell(&Tell::BadWeights(error), &[]),
        }
    }

    fn tell(&self, told: &Tell, beside: &[u8]) -> io::Result<()> {
        wire::send(&mut &self.socket, told, beside)
    }
}

/// Reads a checkpoint and writes exactly its architecture's tensors as safetensors.
fn write_weights(
    path: &Path,
    options: ReadOptions,
    mut out: File,
) -> Result<(crate::domain::Architecture, Vec<String>), WeightsError> {
    let imported = weights::read(path, options).map_err(WeightsError::plain)?;
    let bytes = weights::to_bytes(&imported.tensors, &std::collections::BTreeMap::new())?;
    drop(imported.tensors);
    let failed = |error: io::Error| WeightsError::Unreadable(error.kind().to_string());
    io::Write::write_all(&mut out, &bytes).map_err(failed)?;
    Ok((imported.architecture, imported.notices))
}

/// The whole file.
fn read(mut file: File) -> Result<Vec<u8>, ImagingError> {
    let mut bytes = Vec::new();
    let rewound = io::Seek::rewind(&mut file).and_then(|()| file.read_to_end(&mut bytes));
    rewound.map_err(|_| ImagingError::DecoderFailed)?;
    Ok(bytes)
}
