//! Pictures sent to be answered for: a raw body or the `file` parts of a form, made into inputs.
//!
//! What is sent goes to files without names and from there to the processes that read it. Inputs
//! come back one by one, and as many wait for the network as it takes at a time: memory does not
//! grow with what is sent.

use std::fs::File;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequest, Multipart, Request};
use axum::http::header::CONTENT_TYPE;
use tokio::sync::mpsc;

use crate::decode::{Budget, DecodeError, Pool};
use crate::domain::Preprocessing;
use crate::http::app::App;
use crate::http::wire::body::bounds::{Most, Parts};
use crate::http::wire::body::spool::Spooled;
use crate::http::wire::documented::Bytes;
use crate::http::wire::problem::{Code, Problem, Violation};

/// Files of one form at most.
const MAX_FILES: usize = 1000;

/// One or more files to be answered for.
#[derive(Debug, utoipa::ToSchema)]
pub struct PicturesForm {
    /// PNG, JPEG or DICOM files.
    #[expect(dead_code, reason = "only its schema is used")]
    file: Vec<Bytes>,
}

/// A file as it came.
#[derive(Debug)]
pub struct Sent {
    /// The caller's name of it, if it has one.
    pub name: Option<String>,
    /// Its bytes, in a file without a name.
    pub file: File,
}

/// A picture that is ready for a network.
#[derive(Debug)]
pub struct Prepared {
    /// The caller's name of its file.
    pub file: Option<String>,
    /// Frame within the file.
    pub frame: u32,
    /// The network's input.
    pub input: Vec<f32>,
}

/// Reads the files of a request, all of them within the time that one prediction may take.
pub async fn receive(app: &App, request: Request) -> Result<Vec<Sent>, Problem> {
    let seconds = app.limits.predict_seconds;
    let received = tokio::time::timeout(app.limits.predict_timeout(), read(app, request)).await;
    received.unwrap_or_else(|_| {
        let detail =
            format!("the files took longer than {seconds} s (LVMED_LIMIT_PREDICT_SECONDS)");
        Err(Problem::new(Code::Timeout, detail))
    })
}

async fn read(app: &App, request: Request) -> Result<Vec<Sent>, Problem> {
    let most = Most {
        bytes: app.limits.predict_bytes as u64,
        setting: "LVMED_LIMIT_PREDICT_BYTES",
        idle: Duration::from_secs(app.limits.upload_idle_seconds),
    };
    let kind = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if !kind.is_some_and(|kind| kind.to_ascii_lowercase().starts_with("multipart/form-data")) {
        let mut spooled = Spooled::new(app)?;
        let mut parts = Parts::new(request.into_body(), most);
        while let Some(part) = parts.next().await? {
            spooled.write(&part).await?;
        }
        return Ok(vec![Sent { name: None, file: spooled.finish().await? }]);
    }
    let mut form = Multipart::from_request(request, app).await?;
    let (mut files, mut found) = (Vec::new(), 0);
    while let Some(mut field) = most.wait(form.next_field()).await?? {
        if field.name() != Some("file") {
            let detail = "the form may only have parts named `file`";
            return Err(Problem::wrong("/file", detail));
        }
        if files.len() == MAX_FILES {
            let detail = format!("the form has more than {MAX_FILES} files, which is the limit");
            return Err(Problem::new(Code::TooLarge, detail));
        }
        let name = field.file_name().map(shown);
        let mut spooled = Spooled::new(app)?;
        while let Some(part) = most.wait(field.chunk()).await?? {
            found += part.len() as u64;
            most.check(found)?;
            spooled.write(&part).await?;
        }
        files.push(Sent { name, file: spooled.finish().await? });
    }
    if files.is_empty() {
        return Err(Problem::wrong("/file", "the form has no part named `file`"));
    }
    Ok(files)
}

/// A caller's own name of a file as it is echoed to that caller, and to nobody else.
fn shown(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(300).collect()
}

/// Pictures as they become ready; the receiver gets them in the order of the files.
///
/// As many requests at a time as there are cores: more at once would only take more memory.
pub async fn prepare(
    app: &App,
    files: Vec<Sent>,
    preprocessing: Preprocessing,
    waiting: usize,
) -> Result<(mpsc::Receiver<Prepared>, Preparing), Problem> {
    let gate = Arc::clone(&app.gates.decoding);
    // The gate is never closed; should it be, nothing more is served anyway.
    let place = gate.acquire_owned().await.map_err(Problem::internal)?;
    let (sender, receiver) = mpsc::channel(waiting);
    let decoder = app.decoder.clone();
    let work = tokio::task::spawn_blocking(move || {
        let done = make(&decoder, files, &preprocessing, &sender);
        drop(place);
        done
    });
    Ok((receiver, Preparing(work)))
}

/// The work that makes pictures ready, away from the threads that serve.
#[derive(Debug)]
pub struct Preparing(tokio::task::JoinHandle<Result<(), Problem>>);

impl Preparing {
    /// Waits for its end; what was wrong with the files.
    pub async fn end(self) -> Result<(), Problem> {
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
) -> Result<(), Problem> {
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
            Err(error @ DecodeError::Io(_)) => return Err(error.into()),
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(Problem::invalid(wrong)) }
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
