//! Files made into inputs of a network, as they become ready.
//!
//! The processes that read files give inputs back one by one, and as many wait for the network as it
//! takes at a time: memory does not grow with what is sent.

use std::fs::File;
use std::ops::ControlFlow;
use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

use super::error::PredictError;
use crate::decode::{Budget, DecodeError, Pool};
use crate::domain::Preprocessing;
use crate::service::violation::Violation;

/// A file as it came.
#[derive(Debug)]
pub struct Sent {
    /// The caller's name of it, if it has one.
    pub name: Option<String>,
    /// Its bytes.
    pub file: File,
}

/// A picture that is ready for a network.
#[derive(Debug)]
pub(super) struct Prepared {
    /// The caller's name of its file.
    pub(super) file: Option<String>,
    /// Frame within the file.
    pub(super) frame: u32,
    /// The network's input.
    pub(super) input: Vec<f32>,
}

/// Makes pictures ready, on threads that may wait.
#[derive(Debug, Clone)]
pub(super) struct Preparer {
    /// Reads the files.
    pub(super) decoder: Pool,
    /// Callers whose pictures are being decoded; further ones wait.
    pub(super) gate: Arc<Semaphore>,
    /// Pictures that wait for the network at most.
    pub(super) waiting: usize,
}

impl Preparer {
    /// Pictures as they become ready; the receiver gets them in the order of the files.
    pub(super) async fn prepare(
        &self,
        files: Vec<Sent>,
        preprocessing: Preprocessing,
    ) -> Result<(mpsc::Receiver<Prepared>, Preparing), PredictError> {
        // The gate is never closed; should it be, nothing more is served anyway.
        let place = Arc::clone(&self.gate).acquire_owned().await?;
        let (sender, receiver) = mpsc::channel(self.waiting);
        let decoder = self.decoder.clone();
        let work = tokio::task::spawn_blocking(move || {
            let done = make(&decoder, files, &preprocessing, &sender);
            drop(place);
            done
        });
        Ok((receiver, Preparing(work)))
    }
}

/// The work that makes pictures ready, away from the threads that serve.
#[derive(Debug)]
pub(super) struct Preparing(JoinHandle<Result<(), PredictError>>);

impl Preparing {
    /// Waits for its end; what was wrong with the files.
    pub(super) async fn end(self) -> Result<(), PredictError> {
        self.0.await?
    }
}

/// A file that gives no picture is told by its number: its name may name a patient. The first that
/// breaks the process that reads it ends the request.
fn make(
    decoder: &Pool,
    files: Vec<Sent>,
    preprocessing: &Preprocessing,
    sender: &mpsc::Sender<Prepared>,
) -> Result<(), PredictError> {
    let mut budget = decoder.budget();
    let mut wrong = Vec::new();
    let alone = files.len() == 1;
    for (number, sent) in files.into_iter().enumerate() {
        match pictures(decoder, &sent, preprocessing, (&mut budget, sender)) {
            Ok(()) => {}
            // Whoever asked has gone.
            Err(DecodeError::Stopped) => return Ok(()),
            Err(error @ (DecodeError::Refused(_) | DecodeError::Breach(_))) => {
                let is_breach = matches!(error, DecodeError::Breach(_));
                let which =
                    if alone { "the file".to_owned() } else { format!("file {}", number + 1) };
                let detail = format!("{which} {error}");
                wrong.push(Violation::new(format!("/file/{number}"), detail));
                if is_breach || budget.is_spent() {
                    break;
                }
            }
            Err(error @ DecodeError::Io(_)) => return Err(PredictError::Decode(error)),
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(PredictError::Unreadable(wrong)) }
}

fn pictures(
    decoder: &Pool,
    sent: &Sent,
    preprocessing: &Preprocessing,
    (budget, sender): (&mut Budget, &mpsc::Sender<Prepared>),
) -> Result<(), DecodeError> {
    decoder.inputs(&sent.file, preprocessing, budget, &mut |frame| {
        let file = sent.name.clone();
        let prepared = Prepared { file, frame: frame.frame, input: frame.input };
        match sender.blocking_send(prepared) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    })
}
