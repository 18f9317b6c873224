//! The requests of tests to a server, wherever it runs.

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

/// The longest that anything in these tests is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_mins(3);
/// The settings of every server in these tests, unless a test says otherwise.
pub(crate) const SETTINGS: [(&str, &str); 4] = [
    ("LVMED_LISTEN", "127.0.0.1:0"),
    ("LVMED_LEASE_SECONDS", "3"),
    ("LVMED_THREADS", "2"),
    ("LVMED_LIMIT_FREE_BYTES", "1000000"),
];

/// A server that listens, and its folder.
pub(crate) struct Api {
    pub(crate) address: String,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) http: Client,
    /// The database that commands are told of; none where they find the one of the data folder.
    pub(crate) external: Option<String>,
    /// The log so far.
    pub(crate) logged: Arc<Mutex<String>>,
}

impl Api {
    /// Everything the server and its workers have written to their logs.
    pub(crate) fn log(&self) -> String {
        self.logged.lock().expect("not poisoned").clone()
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

    /// Runs a command of the program on the server's data.
    pub(crate) fn command(&self, arguments: &[&str]) -> std::process::Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lvmed"));
        command.args(arguments).arg("--data").arg(self.data());
        match &self.external {
            Some(url) => command.env("DATABASE_URL", url),
            None => command.env_remove("DATABASE_URL"),
        };
        command.output().expect("the program runs")
    }

    /// The server's data folder.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }
}

/// Makes the data folder of a server within `folder`. Every server has the same secret: equal files then
/// give equal patient keys, digests and draws, and what two servers publish can be compared.
pub(crate) fn make_data(folder: &tempfile::TempDir) -> PathBuf {
    let data = folder.path().join("data");
    std::fs::create_dir_all(&data).expect("a data folder");
    std::fs::write(data.join("secret"), [7; 32]).expect("a secret");
    data
}
