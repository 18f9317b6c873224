//! Pictures sent to be answered for: a raw body or the `file` parts of a form, in files without names.

use std::time::Duration;

use axum::extract::{FromRequest, Multipart, Request};
use axum::http::header::CONTENT_TYPE;

use crate::http::app::App;
use crate::http::wire::body::bounds::{Most, Parts};
use crate::http::wire::body::spool::Spooled;
use crate::http::wire::documented::Bytes;
use crate::http::wire::problem::{Code, Problem};
use crate::service::predict::Sent;

/// Files of one form at most.
const MAX_FILES: usize = 1000;

/// One or more files to be answered for.
#[derive(Debug, utoipa::ToSchema)]
pub struct PicturesForm {
    /// PNG, JPEG or DICOM files.
    #[expect(dead_code, reason = "only its schema is used")]
    file: Vec<Bytes>,
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
