//! Headless Chromium behind chromedriver, asked for things by their `data-testid`.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fantoccini::elements::Element;
use fantoccini::wd::Capabilities;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};

use crate::skipped::{Need, skip};

/// The longest that the page may take for anything.
const PATIENCE: Duration = Duration::from_mins(1);
/// The width of a small laptop's window, and the height that screenshots start from.
const WINDOW: (u32, u32) = (1366, 768);
/// The width of a narrow window.
const NARROW: u32 = 420;
/// The tallest screenshot.
const TALLEST: u64 = 6000;

/// Chromium flags: no window, no sandbox inside a container, nothing that asks the internet.
const FLAGS: [&str; 10] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--lang=en",
];

/// A browser with one window.
pub(super) struct Browser {
    client: Client,
    address: String,
    driver: Child,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts a browser; `None`, with the reason told, where there is none.
    pub(super) async fn start() -> Option<Self> {
        let (Some(chromium), Some(chromedriver)) =
            (program(&["chromium", "google-chrome"]), program(&["chromedriver"]))
        else {
            skip(Need::Browser, "chromium and chromedriver are not both installed");
            return None;
        };
        let port = free_port();
        let driver = Command::new(chromedriver)
            .arg(format!("--port={port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver starts");
        let profile = tempfile::tempdir().expect("a temporary folder");
        let address = format!("http://127.0.0.1:{port}");
        let client = connect(&address, &chromium, profile.path()).await;
        client.set_window_size(WINDOW.0, WINDOW.1).await.expect("the window takes a size");
        Some(Self { client, address, driver, _profile: profile })
    }

    /// Opens a place of the page anew.
    pub(super) async fn open(&self, server: &str, place: &str) {
        // The same address with another fragment would not load again.
        self.client.goto("about:blank").await.expect("the browser follows");
        self.client.goto(&format!("{server}/{place}")).await.expect("the browser follows");
        self.wait("the page", async || {
            let drawn = "return document.querySelector('main h1') !== null \
                         && document.querySelector('.loading') === null";
            (self.execute(drawn).await == json!(true)).then_some(())
        })
        .await;
    }

    pub(super) async fn execute(&self, script: &str) -> Value {
        self.client.execute(script, vec![]).await.expect("the script runs")
    }

    /// Waits for an element that is shown.
    pub(super) async fn see(&self, id: &str) -> Element {
        self.wait(id, async || {
            let found = self.client.find(Locator::Css(&selector(id))).await.ok()?;
            found.is_displayed().await.unwrap_or(false).then_some(found)
        })
        .await
    }

    pub(super) async fn click(&self, id: &str) {
        self.wait(id, async || {
            let found = self.client.find(Locator::Css(&selector(id))).await.ok()?;
            // It may be redrawn, or disabled, between any two steps.
            (found.is_enabled().await.ok()? && found.click().await.is_ok()).then_some(())
        })
        .await;
    }

    pub(super) async fn type_into(&self, id: &str, text: &str) {
        self.see(id).await.send_keys(text).await.expect("the field takes text");
    }

    /// Puts another value into a field that has one.
    pub(super) async fn set(&self, id: &str, value: &str) {
        self.see(id).await;
        let script = format!(
            "const field = document.querySelector('{}');
             Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set.call(field, {value:?});
             field.dispatchEvent(new Event('input', {{ bubbles: true }}));",
            selector(id)
        );
        self.execute(&script).await;
    }

    /// Chooses an option of a list by its value, and lets the page draw what follows from it.
    pub(super) async fn choose(&self, id: &str, value: &str) {
        self.see(id).await;
        let script = format!(
            "const field = document.querySelector('{}');
             field.value = {value:?};
             field.dispatchEvent(new Event('change', {{ bubbles: true }}));
             return new Promise((drawn) => requestAnimationFrame(() => setTimeout(drawn)));",
            selector(id)
        );
        self.execute(&script).await;
    }

    /// Gives a file to a file input, which may be hidden.
    pub(super) async fn choose_file(&self, id: &str, file: &Path) {
        self.wait(id, async || {
            let found = self.client.find(Locator::Css(&selector(id))).await.ok()?;
            found.send_keys(&file.display().to_string()).await.ok()
        })
        .await;
    }

    /// Drops files or folders of this machine on an element, as a hand would.
    pub(super) async fn drop_on(&self, id: &str, paths: &[&Path]) {
        self.see(id).await;
        let place = format!(
            "const box = document.querySelector('{}').getBoundingClientRect();
             return [box.x + box.width / 2, box.y + box.height / 2]",
            selector(id)
        );
        let place = self.execute(&place).await;
        for kind in ["dragEnter", "dragOver", "drop"] {
            let data = json!({"items": [], "files": paths, "dragOperationsMask": 1});
            let event = json!({"type": kind, "x": place[0], "y": place[1], "data": data});
            self.command("Input.dispatchDragEvent", &event).await;
        }
    }

    /// A command of Chromium's own protocol, for what `WebDriver` has no words.
    async fn command(&self, name: &str, parameters: &Value) {
        let session = self.client.session_id().await.expect("a session").expect("a session");
        let answer = reqwest::Client::new()
            .post(format!("{}/session/{session}/goog/cdp/execute", self.address))
            .json(&json!({"cmd": name, "params": parameters}))
            .send()
            .await
            .expect("chromedriver answers");
        assert!(answer.status().is_success(), "{name}: {:?}", answer.text().await);
    }

    pub(super) async fn text(&self, id: &str) -> String {
        self.see(id).await.text().await.expect("the element has text")
    }

    pub(super) async fn attribute(&self, id: &str, name: &str) -> String {
        let found = self.see(id).await.attr(name).await.expect("the element is there");
        found.unwrap_or_else(|| panic!("{id} has no {name}"))
    }

    /// Waits until an element's text holds `part`.
    pub(super) async fn wait_for_text(&self, id: &str, part: &str) {
        self.wait(&format!("{part:?} in {id}"), async || {
            let found = self.client.find(Locator::Css(&selector(id))).await.ok()?;
            found.text().await.ok()?.contains(part).then_some(())
        })
        .await;
    }

    /// Waits until the page says `part` somewhere.
    pub(super) async fn wait_for_page_text(&self, part: &str) {
        self.wait(part, async || {
            let found = self.execute("return document.body.innerText").await;
            found.as_str()?.to_lowercase().contains(part).then_some(())
        })
        .await;
    }

    /// The complaints of the browser's log since it was last asked: errors of scripts, refused
    /// content, failed requests.
    pub(super) async fn complaints(&self) -> Vec<String> {
        let session = self.client.session_id().await.expect("a session").expect("a session");
        let answer: Value = reqwest::Client::new()
            .post(format!("{}/session/{session}/se/log", self.address))
            .json(&json!({"type": "browser"}))
            .send()
            .await
            .expect("chromedriver answers")
            .json()
            .await
            .expect("chromedriver answers in JSON");
        let lines = answer["value"].as_array().expect("a list of lines").iter();
        lines
            .filter(|line| line["level"] == "SEVERE" || line["level"] == "WARNING")
            .map(|line| line["message"].to_string())
            .collect()
    }

    /// Makes the window as narrow as half a small screen.
    pub(super) async fn narrow(&self) {
        self.client.set_window_size(NARROW, WINDOW.1).await.expect("the window takes a size");
    }

    /// Keeps a picture of the whole page in the folder `LVMED_SCREENSHOTS`, when it is named.
    pub(super) async fn screenshot(&self, name: &str) {
        let Ok(folder) = std::env::var("LVMED_SCREENSHOTS") else { return };
        let (width, height) = self.client.get_window_size().await.expect("the window has a size");
        let whole = self.execute("return document.documentElement.scrollHeight + 160").await;
        let tall = whole.as_u64().unwrap_or(height).clamp(height, TALLEST) as u32;
        let (width, height) = (width as u32, height as u32);
        self.client.set_window_size(width, tall).await.expect("the window takes a size");
        let picture = self.client.screenshot().await.expect("a picture");
        self.client.set_window_size(width, height).await.expect("the window takes a size");
        std::fs::create_dir_all(&folder).expect("the folder is made");
        std::fs::write(PathBuf::from(folder).join(format!("{name}.png")), picture).expect("kept");
    }

    /// Ends the browser; chromedriver ends with this value.
    pub(super) async fn stop(self) {
        self.client.clone().close().await.expect("the browser ends");
    }

    async fn wait<T>(&self, what: &str, found: impl AsyncFn() -> Option<T>) -> T {
        let started = Instant::now();
        loop {
            if let Some(found) = found().await {
                return found;
            }
            if started.elapsed() > PATIENCE {
                self.screenshot("failed").await;
                let page = self.execute("return document.body.innerText").await;
                panic!(
                    "{what} did not come\nthe page says:\n{}\nthe browser says: {:#?}",
                    page.as_str().unwrap_or_default(),
                    self.complaints().await
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // By its own process; a browser whose driver is gone ends too.
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

async fn connect(address: &str, chromium: &Path, profile: &Path) -> Client {
    let mut flags: Vec<String> = FLAGS.map(str::to_owned).to_vec();
    flags.push(format!("--user-data-dir={}", profile.display()));
    let capabilities = json!({
        "goog:chromeOptions": {"args": flags, "binary": chromium},
        "goog:loggingPrefs": {"browser": "ALL"},
    });
    let Value::Object(capabilities) = capabilities else { unreachable!("it is an object") };
    let started = Instant::now();
    loop {
        let mut builder = ClientBuilder::new(HttpConnector::new());
        builder.capabilities(Capabilities::from(capabilities.clone()));
        match builder.connect(address).await {
            Ok(client) => return client,
            // The driver takes a moment until it listens.
            Err(error) => assert!(started.elapsed() < PATIENCE, "no browser: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn selector(id: &str) -> String {
    format!("[data-testid=\"{id}\"]")
}

fn program(names: &[&str]) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    let candidates = std::env::split_paths(&folders)
        .flat_map(|folder| names.iter().map(move |name| folder.join(name)));
    candidates.into_iter().find(|path| path.is_file())
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("it is bound").port()
}
