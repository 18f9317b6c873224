//! A real `lvmed serve` with its worker and its own database, for what only processes can show: kills,
//! signals, restarts, limits of the system, logs, the browser. All else is tested on an `App`.

use std::io::{BufRead, BufReader};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reqwest::Client;

use crate::api::{Api, PATIENCE, SETTINGS, make_data};

/// A running server; dropped, it is killed and its folder removed.
pub(crate) struct Server {
    api: Api,
    child: Child,
}

impl Deref for Server {
    type Target = Api;

    fn deref(&self) -> &Api {
        &self.api
    }
}

impl Server {
    /// Starts a server on a free port, with the built-in cluster in a folder of its own.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server with these variables set.
    pub(crate) fn start_with(variables: &[(&str, &str)]) -> Self {
        Self::launch(tempfile::tempdir().expect("a temporary folder"), variables)
    }

    /// Starts a server on a folder that may hold an earlier server's data.
    pub(crate) fn start_in(folder: tempfile::TempDir) -> Self {
        Self::launch(folder, &[])
    }

    fn launch(folder: tempfile::TempDir, variables: &[(&str, &str)]) -> Self {
        Self::run(Path::new(env!("CARGO_BIN_EXE_lvmed")), folder, variables)
    }

    /// Starts the release binary, where `LVMED_BINARY` names one, else the one under test.
    pub(crate) fn start_release(variables: &[(&str, &str)]) -> Self {
        let program = std::env::var_os("LVMED_BINARY");
        let program =
            program.map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_lvmed")), PathBuf::from);
        Self::run(&program, tempfile::tempdir().expect("a temporary folder"), variables)
    }

    fn run(program: &Path, folder: tempfile::TempDir, variables: &[(&str, &str)]) -> Self {
        let data = make_data(&folder);
        let mut child = Command::new(program)
            .args(["serve", "--data"])
            .arg(&data)
            .env_remove("DATABASE_URL")
            .envs(SETTINGS)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let log = Arc::new(Mutex::new(String::new()));
        let address = Arc::new(Mutex::new(None));
        for stream in [
            Box::new(child.stdout.take().expect("piped")) as Box<dyn std::io::Read + Send>,
            Box::new(child.stderr.take().expect("piped")),
        ] {
            let (log, address) = (Arc::clone(&log), Arc::clone(&address));
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    if let Some((_, rest)) = line.split_once("listening on http://") {
                        let host: String = rest
                            .chars()
                            .take_while(|c| c.is_ascii_digit() || ".:".contains(*c))
                            .collect();
                        *address.lock().expect("not poisoned") = Some(format!("http://{host}"));
                    }
                    log.lock().expect("not poisoned").push_str(&(line + "\n"));
                }
            });
        }
        let started = Instant::now();
        let address = loop {
            if let Some(address) = address.lock().expect("not poisoned").clone() {
                break address;
            }
            let gone = child.try_wait().expect("the child is ours");
            assert!(
                gone.is_none() && started.elapsed() < PATIENCE,
                "the server did not start: {gone:?}\n{}",
                log.lock().expect("not poisoned")
            );
            std::thread::sleep(Duration::from_millis(50));
        };
        let api = Api { address, folder, http: Client::new(), external: None, logged: log };
        Self { api, child }
    }

    /// A connection to the server's own cluster.
    pub(crate) async fn database(&self) -> sqlx::PgConnection {
        let socket = self.data().join("postgres-socket");
        let url = format!("postgres://lvmed@localhost/lvmed?host={}", socket.display());
        <sqlx::PgConnection as sqlx::Connection>::connect(&url).await.expect("it is connected")
    }

    /// The server's process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The process ids of the workers.
    pub(crate) fn workers(&self) -> Vec<u32> {
        let parent = self.child.id();
        let processes = std::fs::read_dir("/proc").expect("a /proc").flatten();
        processes
            .filter_map(|process| process.file_name().to_str()?.parse::<u32>().ok())
            .filter(|process| is_worker_of(*process, parent))
            .collect()
    }

    /// Stops every worker as it stands, so that it neither works nor ends; their process ids.
    pub(crate) fn freeze_workers(&self) -> Vec<u32> {
        let workers = self.workers();
        assert!(!workers.is_empty(), "no worker is running\n{}", self.log());
        workers.iter().for_each(|worker| signal(*worker, "STOP"));
        workers
    }

    /// Kills every worker with SIGKILL, as the kernel does when memory runs out.
    pub(crate) fn kill_workers(&self) {
        let workers = self.workers();
        assert!(!workers.is_empty(), "no worker is running\n{}", self.log());
        workers.into_iter().for_each(|worker| signal(worker, "KILL"));
    }

    /// Kills the server itself with SIGKILL and gives back its folder, data and all.
    pub(crate) fn kill(mut self) -> tempfile::TempDir {
        signal(self.child.id(), "KILL");
        self.child.wait().expect("the child is ours");
        let empty = tempfile::tempdir().expect("a temporary folder");
        std::mem::replace(&mut self.api.folder, empty)
    }

    /// Asks the server to stop and waits until it has; whether it ended well.
    pub(crate) fn stop(&mut self) -> bool {
        signal(self.child.id(), "TERM");
        self.child.wait().expect("the child is ours").success()
    }

    /// The address of the server's built-in database.
    pub(crate) fn database_url(&self) -> String {
        let lock = std::fs::read_to_string(self.data().join("postgres/postmaster.pid"))
            .expect("the built-in Postgres is running");
        let socket = lock.lines().nth(4).expect("the folder of its socket").replace('/', "%2F");
        format!("postgres://lvmed@localhost/lvmed?host={socket}")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            signal(self.child.id(), "TERM");
            let _ = self.child.wait();
        }
    }
}

pub(crate) fn signal(process: u32, name: &str) {
    let sent = Command::new("kill").args([format!("-{name}"), process.to_string()]).status();
    assert!(sent.is_ok_and(|status| status.success()), "no signal reached {process}");
}

fn is_worker_of(process: u32, parent: u32) -> bool {
    let folder = Path::new("/proc").join(process.to_string());
    let status = std::fs::read_to_string(folder.join("status")).unwrap_or_default();
    let line = std::fs::read_to_string(folder.join("cmdline")).unwrap_or_default();
    status.lines().any(|line| line == format!("PPid:\t{parent}"))
        && line.split('\0').nth(1) == Some("worker")
}
