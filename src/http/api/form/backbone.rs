//! The form that imports a backbone: what is known of it, then its file.

use std::fmt::Display;
use std::str::FromStr;

use axum::extract::multipart::Field;
use axum::extract::{FromRequest, Multipart, Request};
use tempfile::NamedTempFile;

use crate::domain::backbone::ChannelOrder;
use crate::domain::name::Name;
use crate::domain::{Architecture, Preprocessing};
use crate::http::app::App;
use crate::http::wire::body::bounds::Most;
use crate::http::wire::body::spool;
use crate::http::wire::documented::Bytes;
use crate::http::wire::extract::Checks;
use crate::http::wire::problem::Problem;
use crate::nn::weights::ReadOptions;
use crate::service::import::{ImportRequest, TEXT_MAX};
use crate::service::violation::Violation;

/// A backbone to be imported; `file` comes last.
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
pub struct ImportForm {
    /// Name of the backbone.
    #[schema(min_length = 1, max_length = 120)]
    name: String,
    /// Where the weights come from.
    #[schema(min_length = 1, max_length = 1000)]
    source_url: String,
    /// The licence of the weights: its name, or its whole text.
    #[schema(min_length = 1, max_length = 65536)]
    license: String,
    /// The architecture; found from the weights when absent.
    #[schema(required = false)]
    architecture: Architecture,
    /// Side of the square input, a multiple of what the architecture asks for (32, of DINOv2 14); 224 when absent.
    #[schema(minimum = 32, maximum = 2048, required = false)]
    size: u32,
    /// Channel order; `rgb` when absent.
    #[schema(required = false)]
    channel_order: ChannelOrder,
    /// Mean of each channel, such as `0.485,0.456,0.406`.
    #[schema(required = false)]
    mean: String,
    /// Standard deviation of each channel, such as `0.229,0.224,0.225`.
    #[schema(required = false)]
    std: String,
    /// Whether 3-D kernels are summed over their depth; `false` when absent.
    #[schema(required = false)]
    collapse_depth: bool,
    /// The weights; the last part.
    file: Bytes,
}

/// Reads the form, its file to the spool.
pub async fn read(app: &App, request: Request) -> Result<(NamedTempFile, ImportRequest), Problem> {
    let most = app.upload_bounds();
    let mut form = Multipart::from_request(request, app).await?;
    let mut fields = Fields::default();
    while let Some(mut field) = most.wait(form.next_field()).await?? {
        if field.name() == Some("file") {
            // Checked before gigabytes are taken in.
            let wanted = fields.finish()?;
            return Ok((spool::take_field(app, &mut field).await?, wanted));
        }
        let name = field.name().unwrap_or_default().to_owned();
        let text = text(&most, &name, field).await?;
        fields.take(&name, text.trim());
    }
    Err(Problem::wrong("/file", "the form has no part named `file`; it must be the last part"))
}

async fn text(most: &Most, name: &str, mut field: Field<'_>) -> Result<String, Problem> {
    let mut bytes = Vec::new();
    while let Some(part) = most.wait(field.chunk()).await?? {
        bytes.extend_from_slice(&part);
        if bytes.len() > TEXT_MAX {
            let detail = format!("the field is longer than {TEXT_MAX} bytes");
            return Err(Problem::wrong(format!("/{name}"), detail));
        }
    }
    String::from_utf8(bytes)
        .map_err(|_| Problem::wrong(format!("/{name}"), "the field is not UTF-8 text"))
}

/// The fields that were given so far, and what was wrong with them.
#[derive(Debug)]
struct Fields {
    name: Option<Name>,
    source_url: Option<String>,
    license: Option<String>,
    preprocessing: Preprocessing,
    options: ReadOptions,
    wrong: Vec<Violation>,
}

impl Default for Fields {
    fn default() -> Self {
        Self {
            name: None,
            source_url: None,
            license: None,
            preprocessing: Preprocessing::imagenet(),
            options: ReadOptions::default(),
            wrong: Vec::new(),
        }
    }
}

impl Fields {
    fn take(&mut self, name: &str, text: &str) {
        let taken = match name {
            "name" => into(&mut self.name, Name::parse(text).map(Some)),
            "source_url" => into(&mut self.source_url, line(name, text)),
            "license" => into(&mut self.license, paragraphs(text)),
            // An empty field of a web form is one that was left alone.
            _ if text.is_empty() => Ok(()),
            "architecture" => into(&mut self.options.architecture, text.parse().map(Some)),
            "size" => into(&mut self.preprocessing.size, text.parse::<u32>()),
            "channel_order" => into(&mut self.preprocessing.channel_order, channel_order(text)),
            "mean" => into(&mut self.preprocessing.mean, moments(text)),
            "std" => into(&mut self.preprocessing.std, moments(text)),
            "collapse_depth" => into(&mut self.options.collapse_depth, bool::from_str(text)),
            _ => Err("no such field is known".to_owned()),
        };
        if let Err(detail) = taken {
            let name: String = name.chars().take(80).collect();
            self.wrong.push(Violation::new(format!("/{name}"), format!("{name}: {detail}")));
        }
    }

    fn finish(self) -> Result<ImportRequest, Problem> {
        let Self { name, source_url, license, preprocessing, options, mut wrong } = self;
        if let Err(error) = preprocessing.validate(options.architecture) {
            wrong.push(Violation::new("/size", error.to_string()));
        }
        let mut need = |missing: bool, field: &str| {
            let pointer = format!("/{field}");
            if missing && !wrong.iter().any(|known| known.pointer == pointer) {
                let detail = format!("the field `{field}` is needed, before `file`");
                wrong.push(Violation::new(pointer, detail));
            }
        };
        need(name.is_none(), "name");
        need(source_url.is_none(), "source_url");
        need(license.is_none(), "license");
        match (name, source_url, license) {
            (Some(name), Some(source_url), Some(license)) if wrong.is_empty() => {
                Ok(ImportRequest { name, source_url, license, preprocessing, options })
            }
            _ => Err(Problem::invalid(wrong)),
        }
    }
}

fn into<T, E: Display>(place: &mut T, value: Result<T, E>) -> Result<(), String> {
    *place = value.map_err(|error| error.to_string())?;
    Ok(())
}

fn line(name: &str, text: &str) -> Result<Option<String>, String> {
    if text.is_empty() {
        return Err("it must not be empty".to_owned());
    }
    let checked = Checks::default().text(name, Some(text)).done();
    checked.map(|()| Some(text.to_owned())).map_err(|problem| problem.detail().to_owned())
}

/// A text of any number of lines.
fn paragraphs(text: &str) -> Result<Option<String>, String> {
    let odd = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t' | '\u{c}');
    if text.is_empty() {
        Err("it must not be empty".to_owned())
    } else if text.contains(odd) {
        Err("it must not hold control characters other than line breaks and tabs".to_owned())
    } else {
        Ok(Some(text.to_owned()))
    }
}

fn channel_order(text: &str) -> Result<ChannelOrder, String> {
    match text {
        "rgb" => Ok(ChannelOrder::Rgb),
        "bgr" => Ok(ChannelOrder::Bgr),
        _ => Err("it is `rgb` or `bgr`".to_owned()),
    }
}

fn moments(text: &str) -> Result<[f32; 3], String> {
    let numbers: Option<Vec<f32>> = text.split(',').map(|part| part.trim().parse().ok()).collect();
    let numbers = numbers.and_then(|numbers| numbers.try_into().ok());
    numbers.ok_or_else(|| "it is three numbers, such as `0.485,0.456,0.406`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::Fields;

    #[test]
    fn a_form_tells_everything_that_is_wrong_with_it_at_once() {
        let mut fields = Fields::default();
        fields.take("name", "  ");
        fields.take("mean", "1,2");
        fields.take("size", "33");
        fields.take("colour", "red");

        let problem = fields.finish().expect_err("much is wrong");

        for wrong in ["name", "mean", "size", "colour", "source_url", "license"] {
            let listed = problem.errors().iter().any(|error| error.pointer == format!("/{wrong}"));
            assert!(listed, "{wrong}: {:?}", problem.errors());
        }
    }

    #[test]
    fn a_form_of_the_needed_fields_has_the_usual_preprocessing() {
        let mut fields = Fields::default();
        fields.take("name", "LVM-Med");
        fields.take("source_url", "https://example.org/weights");
        fields.take("license", "MIT");
        fields.take("architecture", "");
        fields.take("std", "0.2, 0.3,0.4");

        let request = fields.finish().expect("a request");

        assert_eq!(request.preprocessing.size, 224);
        assert_eq!(request.preprocessing.std, [0.2, 0.3, 0.4]);
        assert_eq!(request.options.architecture, None);
    }
}
