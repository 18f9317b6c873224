//! A real `lvmed serve` with its worker and its own database, for tests of the whole.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

/// The longest that anything in these tests is waited for.
const PATIENCE: Duration = Duration::from_mins(3);

/// A running server; dropped, it is killed and its folder removed.
pub(crate) struct Server {
    pub(crate) address: String,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) http: Client,
    child: Child,
    log: Arc<Mutex<String>>,
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
    ///
    /// Every server has the same secret: equal files then give equal patient keys, digests and
    /// draws, and what two servers publish can be compared.
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
        let data = folder.path().join("data");
        std::fs::create_dir_all(&data).expect("a data folder");
        std::fs::write(data.join("secret"), [7; 32]).expect("a secret");
        let mut child = Command::new(program)
            .args(["serve", "--data"])
            .arg(&data)
            .env_remove("DATABASE_URL")
            .env("LVMED_LISTEN", "127.0.0.1:0")
            .env("LVMED_LEASE_SECONDS", "3")
            .env("LVMED_THREADS", "2")
            .env("LVMED_LIMIT_FREE_BYTES", "1000000")
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
        Self { address, folder, http: Client::new(), child, log }
    }

    /// Everything the server and its workers have written to their logs.
    pub(crate) fn log(&self) -> String {
        self.log.lock().expect("not poisoned").clone()
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.address))
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.expect(self.request(Method::GET, path), StatusCode::OK).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value, status: StatusCode) -> Value {
        self.expect(self.request(Method::POST, path).json(body), status).await
    }

    /// Sends a request and insists on the status; the answer's JSON.
    pub(crate) async fn expect(&self, request: RequestBuilder, status: StatusCode) -> Value {
        let response = request.send().await.expect("the server answers");
        let found = response.status();
        let text = response.text().await.expect("a whole answer");
        assert_eq!(found, status, "{text}\n{}", self.log());
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    /// Random weights as a safetensors file, made by the program itself.
    pub(crate) fn random_weights(&self, architecture: &str) -> Vec<u8> {
        let file = self.folder.path().join(format!("{architecture}.safetensors"));
        let made = Command::new(env!("CARGO_BIN_EXE_lvmed"))
            .args(["backbone", "random", "--architecture", architecture, "--seed", "1", "--out"])
            .arg(&file)
            .output()
            .expect("the program runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        std::fs::read(&file).expect("written")
    }

    /// The request that imports a checkpoint as a backbone.
    pub(crate) fn import(&self, name: &str, size: u32, checkpoint: Vec<u8>) -> RequestBuilder {
        let form = reqwest::multipart::Form::new()
            .text("name", name.to_owned())
            .text("source_url", "https://example.org/weights")
            .text("license", "none: random weights")
            .text("size", size.to_string())
            .part("file", reqwest::multipart::Part::bytes(checkpoint));
        self.request(Method::POST, "/api/v1/backbones").multipart(form)
    }

    /// Imports a backbone of random weights.
    pub(crate) async fn random_backbone(&self, architecture: &str, size: u32) -> Value {
        let weights = self.random_weights(architecture);
        let request = self.import(&format!("random {architecture}"), size, weights);
        self.expect(request, StatusCode::CREATED).await
    }

    /// Sends a request that must be refused with a problem of this status and code, whose detail
    /// holds each of `told`; the problem.
    pub(crate) async fn refused(
        &self,
        request: RequestBuilder,
        (status, code): (StatusCode, &str),
        told: &[&str],
    ) -> Value {
        let response = request.send().await.expect("the server answers");
        let found = response.status();
        let headers = response.headers().clone();
        let text = response.text().await.expect("a whole answer");
        assert_eq!(found, status, "{text}\n{}", self.log());
        let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
        assert_eq!(header("content-type"), Some("application/problem+json"), "{text}");
        let problem: Value = serde_json::from_str(&text).expect("a problem is JSON");
        assert_eq!(problem["code"], code, "{text}");
        assert_eq!(problem["status"], status.as_u16(), "{text}");
        assert_eq!(problem["request_id"].as_str(), header("x-request-id"), "{text}");
        let asks_again = code == "busy" || code == "unavailable";
        assert_eq!(header("retry-after").is_some(), asks_again, "{text}");
        let detail = problem["detail"].as_str().expect("a detail");
        for part in told {
            assert!(detail.contains(part), "{part:?} is not told: {text}");
        }
        problem
    }

    /// Creates an empty dataset; its id.
    pub(crate) async fn empty_dataset(&self, name: &str) -> String {
        let created =
            self.post("/api/v1/datasets", &json!({ "name": name }), StatusCode::CREATED).await;
        created["id"].as_str().expect("an id").to_owned()
    }

    /// The request that uploads `body` to a dataset under a file name.
    pub(crate) fn upload(&self, dataset: &str, file: &str, body: Vec<u8>) -> RequestBuilder {
        let path = format!("/api/v1/datasets/{dataset}/uploads?file={file}");
        self.request(Method::POST, &path).body(body)
    }

    /// Creates a dataset and uploads an archive to it; the dataset's id.
    pub(crate) async fn dataset(&self, name: &str, archive: Vec<u8>) -> String {
        let id = self.empty_dataset(name).await;
        self.expect(self.upload(&id, "images.zip", archive), StatusCode::OK).await;
        id
    }

    /// Freezes a dataset; the version's id.
    pub(crate) async fn freeze(&self, dataset: &str) -> String {
        let path = format!("/api/v1/datasets/{dataset}/versions");
        let version = self.post(&path, &json!({}), StatusCode::CREATED).await;
        version["id"].as_str().expect("an id").to_owned()
    }

    /// Queues a run; its id.
    pub(crate) async fn queue(&self, spec: &Value) -> String {
        let run = self.post("/api/v1/runs", spec, StatusCode::ACCEPTED).await;
        run["id"].as_str().expect("an id").to_owned()
    }

    /// The estimate of a recipe, asked for until the cost of a step is known; the answer.
    pub(crate) async fn estimate(&self, spec: &Value) -> (StatusCode, Value) {
        let started = Instant::now();
        loop {
            let request = self.request(Method::POST, "/api/v1/runs/estimate").json(spec);
            let response = request.send().await.expect("the server answers");
            let status = response.status();
            let found: Value = response.json().await.expect("an answer in JSON");
            if found["measured"] != false {
                return (status, found);
            }
            assert!(started.elapsed() < PATIENCE, "not measured: {found:#}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// A connection to the server's own cluster.
    pub(crate) async fn database(&self) -> sqlx::PgConnection {
        let socket = self.data().join("postgres-socket");
        let url = format!("postgres://lvmed@localhost/lvmed?host={}", socket.display());
        <sqlx::PgConnection as sqlx::Connection>::connect(&url).await.expect("it is connected")
    }

    /// Polls a run until `reached` says so.
    pub(crate) async fn wait(&self, run: &str, reached: impl Fn(&Value) -> bool) -> Value {
        let started = Instant::now();
        loop {
            let found = self.get(&format!("/api/v1/runs/{run}")).await;
            if reached(&found) {
                return found;
            }
            let status = found["status"].as_str().unwrap_or_default().to_owned();
            let over = matches!(status.as_str(), "succeeded" | "failed" | "cancelled");
            assert!(
                !over && started.elapsed() < PATIENCE,
                "not reached: {found:#}\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits for a run to succeed; the run.
    pub(crate) async fn succeed(&self, run: &str) -> Value {
        self.wait(run, |run| run["status"] == "succeeded").await
    }

    /// Downloads an artifact of a model.
    pub(crate) async fn artifact(&self, model: &str, name: &str) -> reqwest::Response {
        let path = format!("/api/v1/models/{model}/artifacts/{name}");
        let response = self.request(Method::GET, &path).send().await.expect("the server answers");
        assert_eq!(response.status(), StatusCode::OK);
        response
    }

    /// SHA-256 of a published model's weights.
    pub(crate) async fn weights_digest(&self, run: &Value) -> String {
        let model =
            self.get(&format!("/api/v1/models/{}", run["model"].as_str().expect("a model"))).await;
        let artifacts = model["artifacts"].as_array().expect("artifacts").iter();
        let weights = artifacts.filter(|artifact| artifact["name"] == "model.safetensors");
        weights.map(|weights| weights["sha256"].as_str().expect("a digest").to_owned()).collect()
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
        std::mem::replace(&mut self.folder, empty)
    }

    /// Asks the server to stop and waits until it has; whether it ended well.
    pub(crate) fn stop(&mut self) -> bool {
        signal(self.child.id(), "TERM");
        self.child.wait().expect("the child is ours").success()
    }

    /// How to reach the server's built-in database.
    pub(crate) fn database_url(&self) -> String {
        let lock = std::fs::read_to_string(self.data().join("postgres/postmaster.pid"))
            .expect("the built-in Postgres is running");
        let socket = lock.lines().nth(4).expect("the folder of its socket").replace('/', "%2F");
        format!("postgres://lvmed@localhost/lvmed?host={socket}")
    }

    /// Runs a command of the program on the server's data folder.
    pub(crate) fn command(&self, arguments: &[&str]) -> std::process::Output {
        Command::new(env!("CARGO_BIN_EXE_lvmed"))
            .args(arguments)
            .arg("--data")
            .arg(self.data())
            .env_remove("DATABASE_URL")
            .output()
            .expect("the program runs")
    }

    /// The server's data folder.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
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
