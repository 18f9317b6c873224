//! Pictures sent to be answered for: a raw body or the `file` parts of a form, made into inputs.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequest, Multipart, Request};
use axum::http::header::CONTENT_TYPE;

use super::App;
use super::body::{self, Most};
use super::intake::Bytes;
use super::problem::{Code, Problem, Violation};
use crate::config::Limits;
use crate::domain::image::Format;
use crate::domain::{Preprocessing, Size};
use crate::imaging::{ImagingError, decode_all, prepare, sniff, take_in};

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
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// A picture that is ready for a network.
#[derive(Debug)]
pub struct Prepared {
    /// The name of its file, identifiers of the patient masked.
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
        let bytes = body::collect(request.into_body(), &most).await?;
        return Ok(vec![Sent { name: None, bytes }]);
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
        let (name, mut bytes) = (field.file_name().map(str::to_owned), Vec::new());
        while let Some(part) = most.wait(field.chunk()).await?? {
            found += part.len() as u64;
            most.check(found)?;
            bytes.extend_from_slice(&part);
        }
        files.push(Sent { name, bytes });
    }
    if files.is_empty() {
        return Err(Problem::wrong("/file", "the form has no part named `file`"));
    }
    Ok(files)
}

/// Decodes and prepares every picture of the files, away from the threads that serve.
///
/// As many requests at a time as there are cores: decoded pictures are large, and more at once would
/// only take more memory.
pub async fn make_inputs(
    app: &App,
    files: Vec<Sent>,
    preprocessing: Preprocessing,
) -> Result<Vec<Prepared>, Problem> {
    let gate = Arc::clone(&app.gates.decoding);
    // The gate is never closed; should it be, nothing more is served anyway.
    let place = gate.acquire_owned().await.map_err(Problem::internal)?;
    let limits = Arc::clone(&app.limits);
    tokio::task::spawn_blocking(move || {
        let made = make(&limits, files, &preprocessing);
        drop(place);
        made
    })
    .await?
}

/// A file that gives no picture is told by its number: its name may name a patient.
fn make(
    limits: &Limits,
    files: Vec<Sent>,
    preprocessing: &Preprocessing,
) -> Result<Vec<Prepared>, Problem> {
    let (mut prepared, mut wrong) = (Vec::new(), Vec::new());
    let alone = files.len() == 1;
    let input_bytes = 12 * u64::from(preprocessing.size) * u64::from(preprocessing.size);
    for (number, sent) in files.into_iter().enumerate() {
        let found = match pictures(sent, limits, preprocessing, input_bytes) {
            Ok(found) => found,
            Err(error) => {
                let which =
                    if alone { "the file".to_owned() } else { format!("file {}", number + 1) };
                let detail = format!("{which} {error}");
                wrong.push(Violation::new(format!("/file/{number}"), detail));
                continue;
            }
        };
        prepared.extend(found);
        room_for(prepared.len(), limits, input_bytes)?;
    }
    if wrong.is_empty() { Ok(prepared) } else { Err(Problem::invalid(wrong)) }
}

fn pictures(
    sent: Sent,
    limits: &Limits,
    preprocessing: &Preprocessing,
    input_bytes: u64,
) -> Result<Vec<Prepared>, ImagingError> {
    let file = sent.name.map(|name| shown(&name, &sent.bytes, limits)).transpose()?;
    let decoded = decode_all(&sent.bytes, limits)?;
    let found = decoded.len() as u64 * input_bytes;
    if found > limits.decoded_bytes {
        return Err(ImagingError::TooManyBytes { found, max: limits.decoded_bytes });
    }
    let input = |(frame, picture)| {
        let input = prepare(&picture, None, preprocessing)?;
        Ok(Prepared { file: file.clone(), frame, input })
    };
    (0..).zip(decoded).map(input).collect()
}

/// The file's name without what the file says of its patient.
fn shown(name: &str, bytes: &[u8], limits: &Limits) -> Result<String, ImagingError> {
    let name: String = name.chars().filter(|c| !c.is_control()).take(300).collect();
    if sniff(bytes) != Some(Format::Dicom) {
        return Ok(name);
    }
    Ok(take_in(bytes, limits)?.identifiers.mask(&name))
}

fn room_for(pictures: usize, limits: &Limits, input_bytes: u64) -> Result<(), Problem> {
    let (found, max) = (pictures as u64 * input_bytes, limits.decoded_bytes);
    if found <= max {
        return Ok(());
    }
    let detail = format!(
        "the {pictures} pictures take {} once prepared; the limit is {} \
         (LVMED_LIMIT_DECODED_BYTES)",
        Size(found),
        Size(max)
    );
    Err(Problem::new(Code::TooLarge, detail))
}
