//! Logs and metrics: what an operator sees. Neither ever carries patient data.

use std::io::IsTerminal;
use std::sync::OnceLock;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// The filter of what is logged unless `LVMED_LOG` says otherwise.
const DEFAULT_FILTER: &str = "info,ort=warn,sqlx=warn,tower_http=warn";
/// Libraries that read files, by the start of their names. What they log quotes what they read, so
/// that it is left out whatever is asked for.
const READERS: [&str; 10] =
    ["dicom", "openjp2", "jxl", "image", "png", "zune", "jpeg", "zip", "csv", "multer"];
/// The thread that `imaging` decodes files on.
const DECODING_THREAD: &str = "decode";
/// Buckets of request durations, in seconds: a health check to a slow prediction.
const SECONDS: [f64; 12] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// Starts logging to standard error: JSON lines when `LVMED_LOG_FORMAT=json`, text otherwise.
/// `LVMED_LOG` filters, such as `debug` or `lvmed=debug,sqlx=info`.
pub fn start_logging() {
    let filter =
        EnvFilter::try_from_env("LVMED_LOG").unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    let readers = |target: &str| READERS.iter().any(|reader| target.starts_with(reader));
    let kept = filter_fn(move |event| !readers(event.target()));
    let registry = tracing_subscriber::registry().with(kept).with(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let is_json = std::env::var("LVMED_LOG_FORMAT").is_ok_and(|format| format == "json");
    // A second call, as in tests, leaves the first subscriber in place.
    let _ = if is_json {
        registry.with(lines.json().flatten_event(true)).try_init()
    } else {
        let lines = lines.with_target(false).with_ansi(std::io::stderr().is_terminal());
        registry.with(lines).try_init()
    };
    silence_decoders();
}

/// A decoder that panics is told by its place: what it says may quote the file.
fn silence_decoders() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if std::thread::current().name() != Some(DECODING_THREAD) {
            return usual(panic);
        }
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::warn!(place, "a decoder panicked");
    }));
}

/// Starts counting, once a process; the handle renders what `/metrics` answers. `None` when somebody
/// else counts already.
pub fn start_metrics() -> Option<PrometheusHandle> {
    static STARTED: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    let start = || {
        PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
            .ok()?
            .install_recorder()
            .ok()
    };
    STARTED.get_or_init(start).clone()
}
