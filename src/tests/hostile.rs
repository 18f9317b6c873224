//! Files that were made to do harm, and thousands of damaged ones, against a whole server.
//!
//! Whatever is sent is answered within ten seconds, costs nothing but itself, and leaves a server
//! whose memory did not grow and that still does its work.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use candle_core::{DType, Device, Tensor};
use image::{GrayImage, ImageFormat, Luma};
use lvmed::nn::weights::to_bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use reqwest::{Method, RequestBuilder, StatusCode};

use crate::dicoms::ct;
use crate::pictures::{png, two_classes, zip};
use crate::server::Server;

/// No answer may take longer.
const SLOWEST: Duration = Duration::from_secs(10);
/// Resident memory that the server may reach, in KiB.
const SERVER_KIB: u64 = 400 << 10;
/// Resident memory that a child may reach, in KiB: its limit, and the program itself.
const CHILD_KIB: u64 = (1 << 20) + (128 << 10);
/// Damaged files of each kind.
const OF_EACH_KIND: u64 = 400;
/// Requests that go on at the same time.
const AT_A_TIME: usize = 4;

/// A server, a dataset, a backbone, and what watches the memory of their processes.
struct Target {
    server: Server,
    dataset: String,
    backbone: String,
    watch: Watch,
}

impl Target {
    async fn start() -> Arc<Self> {
        let server = Server::start_release(&[("LVMED_WORKERS", "0")]);
        let watch = Watch::start(server.id());
        let dataset = server.empty_dataset("hostile").await;
        let backbone = server.random_backbone("resnet18", 32).await;
        let backbone = backbone["id"].as_str().expect("an id").to_owned();
        Arc::new(Self { server, dataset, backbone, watch })
    }

    fn upload(&self, name: &str, bytes: &[u8]) -> RequestBuilder {
        self.server.upload(&self.dataset, name, bytes.to_vec())
    }

    fn embed(&self, bytes: &[u8]) -> RequestBuilder {
        let path = format!("/api/v1/backbones/{}/embed", self.backbone);
        self.server.request(Method::POST, &path).body(bytes.to_vec())
    }

    /// Sends a request; its answer comes in time, is no failure of the server's, and is short.
    async fn answered(&self, what: &str, request: RequestBuilder) -> (StatusCode, String) {
        let started = Instant::now();
        let response = request.send().await;
        let response = response.unwrap_or_else(|error| panic!("{what}: no answer: {error}"));
        let status = response.status();
        let text = response.text().await.expect("a whole answer");
        let elapsed = started.elapsed();
        assert!(elapsed < SLOWEST, "{what}: {elapsed:?}");
        assert!(!status.is_server_error(), "{what}: {status} {text}");
        assert!(text.len() < 4 << 20, "{what}: an answer of {} bytes", text.len());
        (status, text)
    }

    /// The server still does its work, and no process has taken more than it may.
    async fn is_well(&self) {
        let (status, text) = self.answered("embed", self.embed(&png(0, 1, 48))).await;
        assert_eq!(status, StatusCode::OK, "{text}");
        let archive = two_classes(2, 32);
        let (status, text) = self.answered("upload", self.upload("good.zip", &archive)).await;
        assert_eq!(status, StatusCode::OK, "{text}");
        let log = self.server.log();
        assert!(!log.contains("panicked"), "{log}");
        let (server, child) = self.watch.peaks();
        assert!(server < SERVER_KIB, "the server took {server} KiB");
        assert!(child < CHILD_KIB, "a child took {child} KiB");
    }
}

/// Watches the memory of a server and of its children.
struct Watch {
    server: u32,
    largest_child: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
}

impl Watch {
    fn start(server: u32) -> Self {
        let watch = Self { server, largest_child: Arc::default(), is_over: Arc::default() };
        let (largest, is_over) = (Arc::clone(&watch.largest_child), Arc::clone(&watch.is_over));
        std::thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                let peak = children(server).into_iter().map(peak_kib).max().unwrap_or(0);
                largest.fetch_max(peak, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        watch
    }

    fn peaks(&self) -> (u64, u64) {
        (peak_kib(self.server), self.largest_child.load(Ordering::Relaxed))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

/// The most memory that was resident of a process, in KiB.
fn peak_kib(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse().ok()).unwrap_or(0)
}

/// The children of a process that read files.
fn children(parent: u32) -> Vec<u32> {
    let threads = std::fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
    let listed = threads
        .map(|thread| std::fs::read_to_string(thread.path().join("children")).unwrap_or_default());
    let ids: Vec<u32> = listed
        .flat_map(|list| list.split(' ').filter_map(|id| id.parse().ok()).collect::<Vec<_>>())
        .collect();
    let reads = |id: &u32| {
        let line = std::fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default();
        line.split('\0').nth(1) == Some("decode")
    };
    ids.into_iter().filter(reads).collect()
}

/// The form that imports a file as a backbone.
fn import(target: &Target, name: &str, bytes: &[u8]) -> RequestBuilder {
    target.server.import(name, 32, bytes.to_vec())
}

#[tokio::test]
async fn every_hostile_file_is_answered_in_time_and_leaves_a_server_that_works() {
    let Some(folder) = crate::test_data("hostile") else { return };
    let target = Target::start().await;

    for (name, bytes) in files(&folder) {
        let (status, text) = target.answered(&name, import(&target, "hostile", &bytes)).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{name}: {text}");
        target.answered(&name, target.upload(&name, &bytes)).await;
        target.answered(&name, target.embed(&bytes)).await;
        if !is(&name, "zip") {
            let inside =
                zip(&[(format!("a/{name}"), bytes), ("a/b.png".to_owned(), png(0, 7, 16))]);
            let (status, text) = target.answered(&name, target.upload("in.zip", &inside)).await;
            assert_eq!(status, StatusCode::OK, "{name}: the others of its archive: {text}");
        }
    }

    target.is_well().await;
    let metrics = target.server.request(Method::GET, "/metrics").send().await.expect("an answer");
    let metrics = metrics.text().await.expect("a whole answer");
    assert!(metrics.contains("lvmed_decode_breaches_total"), "{metrics}");
    let log = target.server.log();
    assert!(log.len() < 200 << 10, "{} bytes of log", log.len());
}

/// Whether a name has this extension.
fn is(name: &str, extension: &str) -> bool {
    Path::new(name).extension().is_some_and(|found| found == extension)
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder).expect("a folder").flatten();
    entries
        .map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, std::fs::read(entry.path()).expect("a file"))
        })
        .collect()
}

#[tokio::test]
async fn two_thousand_damaged_files_are_answered_in_time_and_leave_a_server_that_works() {
    let target = Target::start().await;
    let samples: [(&str, Vec<u8>); 5] = [
        ("x.dcm", ct(0, 1, "NOBODY")),
        ("x.png", colourful(ImageFormat::Png)),
        ("x.jpg", colourful(ImageFormat::Jpeg)),
        ("x.safetensors", small_safetensors()),
        ("x.pth", small_torch()),
    ];
    let mut work = Vec::new();
    for (name, sample) in samples {
        for seed in 0..OF_EACH_KIND {
            work.push((name, seed, damaged(&sample, seed)));
        }
    }
    let work = Arc::new(std::sync::Mutex::new(work));

    let callers = (0..AT_A_TIME).map(|_| {
        let (work, target) = (Arc::clone(&work), Arc::clone(&target));
        tokio::spawn(async move {
            loop {
                let next = work.lock().expect("not poisoned").pop();
                let Some((name, seed, bytes)) = next else { return };
                let what = format!("{name} {seed}");
                target.answered(&what, import(&target, &what, &bytes)).await;
                target.answered(&what, target.upload(name, &bytes)).await;
                target.answered(&what, target.embed(&bytes)).await;
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.expect("every file is answered");
    }

    target.is_well().await;
}

/// A file with a few bytes changed, a piece of it repeated, left out or cut off.
fn damaged(sample: &[u8], seed: u64) -> Vec<u8> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut bytes = sample.to_vec();
    // Headers are where sizes stand; most damage goes there.
    let head = bytes.len().min(if random.random_bool(0.7) { 1200 } else { usize::MAX });
    for _ in 0..random.random_range(1..6) {
        let at = random.random_range(0..head.min(bytes.len()).max(1));
        let length = random.random_range(1..40).min(bytes.len() - at);
        match random.random_range(0..6) {
            0 => bytes[at] = random.random(),
            1 => bytes[at..at + length.min(4)].fill(0xFF),
            2 => bytes[at..at + length].fill(0),
            3 => {
                let piece = bytes[at..at + length].to_vec();
                bytes.splice(at..at, piece);
            }
            4 => drop(bytes.drain(at..at + length)),
            _ => bytes[at] ^= 1 << random.random_range(0..8),
        }
        if bytes.is_empty() {
            return vec![0];
        }
    }
    if random.random_bool(0.1) {
        bytes.truncate(random.random_range(1..=bytes.len()));
    }
    bytes
}

fn colourful(format: ImageFormat) -> Vec<u8> {
    let picture = GrayImage::from_fn(96, 64, |x, y| Luma([((x * 7) ^ (y * 5)) as u8]));
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).expect("a picture encodes");
    bytes.into_inner()
}

fn small_tensors() -> lvmed::nn::Tensors {
    let tensor = |shape: &[usize]| Tensor::ones(shape, DType::F32, &Device::Cpu).expect("a tensor");
    lvmed::nn::Tensors::from([
        ("conv1.weight".to_owned(), tensor(&[4, 3, 3, 3])),
        ("bn1.weight".to_owned(), tensor(&[4])),
        ("layer1.0.conv1.weight".to_owned(), tensor(&[4, 4, 3, 3])),
    ])
}

fn small_safetensors() -> Vec<u8> {
    to_bytes(&small_tensors(), &BTreeMap::new()).expect("a file")
}

fn small_torch() -> Vec<u8> {
    crate::checkpoints::torch_zip(&small_tensors(), "")
}

#[tokio::test]
async fn a_huge_entry_of_an_archive_takes_no_memory() {
    let target = Target::start().await;
    let zeros = vec![0; 64 << 20];
    let archive = zip(&[("a/zeros.png".to_owned(), zeros), ("a/b.png".to_owned(), png(0, 7, 16))]);

    let (status, text) = target.answered("zeros", target.upload("zeros.zip", &archive)).await;

    assert_eq!(status, StatusCode::OK, "{text}");
    assert!(text.contains("zeros.png"), "{text}");
    target.is_well().await;
}
