//! A server within the test's own process, on a database of its own: the one that `lvmed serve` puts
//! together, with its limits, its layers and the children that read files.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::thread::JoinHandle;

use clap::{CommandFactory, Parser};
use lvmed::config::Config;
use lvmed::inference::Runtime;
use lvmed::serve::Foundation;
use lvmed::worker;
use reqwest::Client;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::api::{Api, SETTINGS, make_data};
use crate::database::Scratch;

/// The log of the servers of this process, warnings and errors only.
static LOGGED: LazyLock<Arc<Mutex<String>>> = LazyLock::new(Arc::default);

/// A running server; dropped, it ends, and its folder and its database are removed.
pub(crate) struct App {
    api: Api,
    stopping: CancellationToken,
    worker: Option<JoinHandle<()>>,
    /// Outlives whatever is connected to it.
    scratch: Scratch,
}

impl Deref for App {
    type Target = Api;

    fn deref(&self) -> &Api {
        &self.api
    }
}

impl App {
    /// Starts a server on which nobody works on runs.
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts a server on which nobody works on runs, with these variables set.
    pub(crate) async fn start_with(variables: &[(&str, &str)]) -> Self {
        Self::launch(variables).await.0
    }

    /// Starts a server with a worker beside it, both with these variables set.
    pub(crate) async fn start_with_worker(variables: &[(&str, &str)]) -> Self {
        let (mut app, config) = Self::launch(variables).await;
        let ending = app.stopping.clone();
        app.worker = Some(std::thread::spawn(move || work(config, ending)));
        app
    }

    async fn launch(variables: &[(&str, &str)]) -> (Self, Config) {
        keep_log();
        let scratch = Scratch::new().await;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = configuration(&make_data(&folder), &scratch.url, variables);
        let stopping = CancellationToken::new();
        let foundation = Foundation {
            config: &config,
            program: program(),
            runtime: Runtime::load(&config.compute).expect("ONNX Runtime is installed"),
            database_url: scratch.url.clone(),
            is_built_in: false,
            stopping: stopping.clone(),
        };
        let running = foundation.start().await.expect("the server starts");
        let api = Api {
            address: format!("http://{}", running.address()),
            folder,
            http: Client::new(),
            external: Some(scratch.url.clone()),
            logged: Arc::clone(&LOGGED),
        };
        (Self { api, stopping, worker: None, scratch }, config)
    }

    /// Connections to its database.
    pub(crate) fn pool(&self) -> &PgPool {
        &self.scratch.store.pool
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.stopping.cancel();
        if let Some(worker) = self.worker.take() {
            // That it panicked was told.
            let _ = worker.join();
        }
    }
}

/// The program whose children do what a server does not do itself.
fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_lvmed"))
}

/// Works on runs until it is to end, as the process of a worker does.
fn work(config: Config, ending: CancellationToken) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    runtime.block_on(worker::work(config, program(), ending)).expect("the worker works");
    runtime.shutdown_background();
}

/// The configuration of a server that is started with these variables, as the command line reads it.
fn configuration(data: &Path, url: &str, variables: &[(&str, &str)]) -> Config {
    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        config: Config,
    }
    let places = [("LVMED_DATA", data.to_str().expect("a path")), ("DATABASE_URL", url)];
    let set = SETTINGS.into_iter().chain(places).chain(variables.iter().copied());
    let command = Line::command();
    let flag = |variable: &str| {
        let is_meant =
            |argument: &&clap::Arg| argument.get_env().is_some_and(|env| env == variable);
        let flag = command.get_arguments().find(is_meant).and_then(clap::Arg::get_long);
        flag.unwrap_or_else(|| panic!("{variable} is no setting")).to_owned()
    };
    // Flags, for variables would be those of every test in this process. The last value counts.
    let flags: BTreeMap<String, &str> = set.map(|(name, value)| (flag(name), value)).collect();
    let flags = flags.iter().map(|(flag, value)| format!("--{flag}={value}"));
    let line = Line::try_parse_from(std::iter::once("lvmed".to_owned()).chain(flags));
    line.unwrap_or_else(|error| panic!("{error}")).config
}

fn keep_log() {
    let lines = tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).with_ansi(false);
    // Another test of this process may have begun to.
    let _ = lines.with_writer(|| Kept).try_init();
}

/// Appends to what was logged.
struct Kept;

impl std::io::Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut logged = LOGGED.lock().unwrap_or_else(PoisonError::into_inner);
        logged.push_str(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
