//! Logs and metrics: what an operator sees. Neither ever carries patient data.

use std::io::IsTerminal;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

/// What is logged unless `LVMED_LOG` says otherwise.
const DEFAULT_FILTER: &str = "info,ort=warn,sqlx=warn,tower_http=warn,openjp2=warn";
/// Buckets of request durations, in seconds: a health check to a slow prediction.
const SECONDS: [f64; 12] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// Starts logging to standard error: JSON lines when `LVMED_LOG_FORMAT=json`, text otherwise.
/// `LVMED_LOG` filters, such as `debug` or `lvmed=debug,sqlx=info`.
pub fn start_logging() {
    let filter =
        EnvFilter::try_from_env("LVMED_LOG").unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let is_json = std::env::var("LVMED_LOG_FORMAT").is_ok_and(|format| format == "json");
    // A second call, as in tests, leaves the first subscriber in place.
    let _ = if is_json {
        lines.json().flatten_event(true).try_init()
    } else {
        lines.with_target(false).with_ansi(std::io::stderr().is_terminal()).try_init()
    };
}

/// Starts counting; the handle renders what `/metrics` answers. `None` when a recorder is
/// installed already and could not be shared.
pub fn start_metrics() -> Option<PrometheusHandle> {
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
        .ok()?
        .install_recorder()
        .ok()
}
