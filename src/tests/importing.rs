//! Importing a backbone: what is read of strangers' checkpoints, and what is made of it.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use lvmed::config::Compute;
use lvmed::domain::Architecture;
use lvmed::inference::{Network, Runtime};
use lvmed::nn::kernel::draw::normal;
use lvmed::nn::weights::{Imported, ReadOptions, WeightsError, random, read, write};
use lvmed::nn::{Encoder, Mode, Params, Tensors};
use lvmed::onnx::{Export, Head, export};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use reqwest::{Method, StatusCode};

use crate::app::App;
use crate::server::Server;
use crate::torch_zip::{legacy_pickle, torch_zip};

/// Candle and ONNX Runtime add up the same numbers in other orders.
const TOLERANCE: f32 = 1e-4;
const SIZE: usize = 64;
const CLASSES: usize = 3;

/// A folder of checkpoints.
pub(crate) struct Files(tempfile::TempDir);

impl Files {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    fn write(&self, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join("checkpoint");
        std::fs::write(&path, bytes).expect("written");
        path
    }

    fn safetensors(&self, tensors: &Tensors) -> PathBuf {
        let path = self.0.path().join("checkpoint");
        let tensors: HashMap<_, _> = tensors.clone().into_iter().collect();
        candle_core::safetensors::save(&tensors, &path).expect("written");
        path
    }

    pub(crate) fn read(&self, tensors: &Tensors) -> Result<Imported, WeightsError> {
        read(&self.safetensors(tensors), ReadOptions::default())
    }

    fn refusal(&self, bytes: &[u8]) -> WeightsError {
        read(&self.write(bytes), ReadOptions::default()).expect_err("no checkpoint")
    }
}

fn resnet18() -> Tensors {
    random(Architecture::RESNET18, 1).expect("random weights")
}

pub(crate) fn filled(shape: &[usize], value: f32) -> Tensor {
    Tensor::full(value, shape, &Device::Cpu).expect("a tensor")
}

fn renamed(tensors: &Tensors, prefix: &str) -> Tensors {
    tensors.iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor.clone())).collect()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    let flat = tensor.flatten_all().and_then(|flat| flat.to_dtype(DType::F32)).expect("flat");
    flat.to_vec1().expect("32-bit floats")
}

pub(crate) fn assert_equal(found: &Tensors, wanted: &Tensors) {
    assert!(found.keys().eq(wanted.keys()));
    for (name, tensor) in wanted {
        assert_eq!(found[name].dims(), tensor.dims(), "{name}");
        assert!(values(&found[name]) == values(tensor), "{name} has other values");
    }
}

#[test]
fn wrappers_of_names_are_stripped_and_classifier_and_counters_dropped_with_a_notice() {
    let files = Files::new();
    let plain = resnet18();
    for (prefix, notices) in [
        ("", vec![]),
        ("module.", vec!["`module.`"]),
        ("module.backbone.", vec!["`module.`", "`backbone.`"]),
        ("state_dict.model.encoder.", vec!["`state_dict.`", "`model.`", "`encoder.`"]),
    ] {
        let mut given = plain.clone();
        given.insert("fc.weight".to_owned(), filled(&[1000, 512], 0.5));
        given.insert("fc.bias".to_owned(), filled(&[1000], 0.5));
        let counter = Tensor::new(9_i64, &Device::Cpu).expect("a counter");
        given.insert("bn1.num_batches_tracked".to_owned(), counter);

        let imported = files.read(&renamed(&given, prefix)).expect("it fits");

        assert_eq!(imported.architecture, Architecture::RESNET18);
        assert_equal(&imported.tensors, &plain);
        let told = imported.notices.join("\n");
        assert!(notices.iter().all(|notice| told.contains(notice)), "{prefix}: {told}");
        assert!(told.contains("fc.bias, fc.weight") && told.contains("1 batch counter"), "{told}");
    }
}

#[test]
fn every_architecture_is_recognised_by_its_tensors_in_half_precision() {
    let files = Files::new();
    // The largest would take gigabytes; they are known by more of the same names.
    let weights = |known: &&Architecture| -> usize {
        known.tensors().values().map(|shape| shape.iter().product::<usize>()).sum()
    };
    let known = Architecture::all().iter().filter(|known| weights(known) < 100_000_000);
    for (architecture, dtype) in known.copied().zip([DType::F16, DType::BF16].into_iter().cycle()) {
        let half = |shape: &Vec<usize>| filled(shape, 0.1).to_dtype(dtype).expect("half");
        let given: Tensors = architecture
            .tensors()
            .iter()
            .map(|(name, shape)| (name.clone(), half(shape)))
            .collect();

        let imported = files.read(&given).expect("it fits");

        assert_eq!(imported.architecture, architecture);
        let (name, weight) = imported.tensors.first_key_value().expect("some tensor");
        assert_eq!(weight.dtype(), DType::F32);
        assert_eq!(values(weight), values(&given[name]), "not the nearest {dtype:?}");
    }
}

#[test]
fn of_a_whole_sam_checkpoint_the_image_encoder_is_taken_without_its_absolute_positions() {
    let files = Files::new();
    let plain: Tensors = Architecture::SAM_VIT_B
        .tensors()
        .into_iter()
        .map(|(name, shape)| (name, filled(&shape, 0.1)))
        .collect();
    let mut given = renamed(&plain, "image_encoder.");
    given.insert("image_encoder.pos_embed".to_owned(), filled(&[1, 64, 64, 768], 0.1));
    given.insert("prompt_encoder.no_mask_embed.weight".to_owned(), filled(&[1, 256], 0.1));
    given.insert("mask_decoder.iou_token.weight".to_owned(), filled(&[1, 256], 0.1));

    let imported = files.read(&given).expect("it fits");

    assert_eq!(imported.architecture, Architecture::SAM_VIT_B);
    assert_equal(&imported.tensors, &plain);
    let told = imported.notices.join("\n");
    for notice in ["`image_encoder.`", "(pos_embed)", "2 tensors of SAM's prompt encoder"] {
        assert!(told.contains(notice), "{notice} is not in {told}");
    }
}

#[test]
fn every_difference_to_the_architecture_is_listed() {
    let files = Files::new();
    let mut given = resnet18();
    given.remove("layer1.0.bn1.bias");
    given.remove("layer4.1.conv2.weight");
    given.insert("decoder.weight".to_owned(), filled(&[2], 0.0));
    given.insert("bn1.weight".to_owned(), filled(&[32], 0.0));

    let refused = files.read(&given).expect_err("it does not fit");

    assert_eq!(
        refused.to_string(),
        "the checkpoint does not fit resnet18: 2 tensors are missing (layer1.0.bn1.bias, \
         layer4.1.conv2.weight); 1 is unknown to it (decoder.weight); 1 has another shape \
         (bn1.weight is [32], expected [64])"
    );
    let differences = refused.differences();
    for line in [
        "missing: layer1.0.bn1.bias",
        "missing: layer4.1.conv2.weight",
        "unexpected: decoder.weight",
        "wrong shape: bn1.weight is [32], expected [64]",
    ] {
        assert!(differences.iter().any(|found| found == line), "{line}: {differences:?}");
    }
    assert_eq!(differences.len(), 4, "{differences:?}");
    let asked = ReadOptions { architecture: Some(Architecture::RESNET34), ..Default::default() };
    let other = read(&files.safetensors(&resnet18()), asked).expect_err("it is another one");
    assert!(other.differences().contains(&"missing: layer3.5.conv2.weight".to_owned()));
    assert_eq!(other.to_string().lines().count(), 1, "{other}");
}

#[test]
fn values_that_are_not_finite_and_files_that_fit_nothing_are_refused() {
    let files = Files::new();
    let mut broken = resnet18();
    broken.insert("bn1.bias".to_owned(), filled(&[64], f32::NAN));
    let foreign = Tensors::from([("embeddings".to_owned(), filled(&[8, 8], 0.0))]);

    let not_finite = files.read(&broken).expect_err("not finite");
    let unknown = files.read(&foreign).expect_err("unknown");

    assert!(matches!(not_finite, WeightsError::NonFinite(name) if name == "bn1.bias"));
    let told = unknown.to_string();
    assert!(told.contains("1 tensors") && told.contains("embeddings"), "{told}");
}

#[test]
fn kernels_with_a_depth_are_summed_over_it_only_when_asked() {
    let files = Files::new();
    let flat = resnet18();
    let mut deep = flat.clone();
    for (name, tensor) in &flat {
        if tensor.rank() == 4 {
            let halves = Tensor::stack(&[tensor, tensor], 2).and_then(|both| both.affine(0.5, 0.0));
            deep.insert(name.clone(), halves.expect("two halves"));
        }
    }
    let path = files.safetensors(&deep);

    let asked = ReadOptions { collapse_depth: true, ..ReadOptions::default() };
    let imported = read(&path, asked).expect("it fits once it is flat");

    assert_equal(&imported.tensors, &flat);
    assert!(imported.notices.iter().any(|notice| notice.contains("20 3-D kernels")));
    let refused = read(&path, ReadOptions::default()).expect_err("not asked");
    assert!(matches!(refused, WeightsError::HasDepth { kernels: 20, .. }), "{refused}");
    assert!(refused.to_string().contains("collapse_depth"), "{refused}");
}

#[test]
fn what_is_no_checkpoint_gets_an_answer_that_says_so() {
    let files = Files::new();
    let whole = std::fs::read(files.safetensors(&resnet18())).expect("read");
    let zip = torch_zip(&resnet18(), None);

    for text in ["", "hello", "a text that is longer than sixteen bytes", "{\"a\": 1}"] {
        assert!(matches!(files.refusal(text.as_bytes()), WeightsError::NotACheckpoint), "{text}");
    }
    let legacy = files.refusal(&legacy_pickle(&resnet18()));
    assert!(matches!(legacy, WeightsError::LegacyPickle), "{legacy}");
    for cut in [16, 1000, whole.len() / 2, whole.len() - 1] {
        let refused = files.refusal(&whole[..cut]);
        assert!(matches!(refused, WeightsError::Unreadable(_)), "{cut} bytes: {refused}");
    }
    for cut in [16, 1000, zip.len() / 2, zip.len() - 1] {
        let refused = files.refusal(&zip[..cut]);
        assert!(matches!(refused, WeightsError::Unreadable(_)), "{cut} bytes: {refused}");
    }
    let other = files.refusal(&crate::pictures::two_classes(1, 32));
    assert!(matches!(other, WeightsError::NotACheckpoint), "{other}");
}

#[test]
fn a_torch_checkpoint_gives_its_tensors_bit_for_bit_plain_or_under_a_key() {
    let files = Files::new();
    let plain = resnet18();
    let mut given = renamed(&plain, "module.");
    let counter = Tensor::new(9_i64, &Device::Cpu).expect("a counter");
    given.insert("module.bn1.num_batches_tracked".to_owned(), counter);
    given.insert("module.fc.bias".to_owned(), filled(&[1000], 0.5));
    assert_eq!(plain.len(), 100);

    for key in [None, Some("state_dict"), Some("model"), Some("encoder")] {
        let path = files.write(&torch_zip(&given, key));
        let imported = read(&path, ReadOptions::default()).expect("it fits");

        assert_eq!(imported.architecture, Architecture::RESNET18);
        assert_equal(&imported.tensors, &plain);
    }
}

/// Random weights whose normalisation is not the identity.
fn trained_looking(architecture: Architecture) -> Tensors {
    let mut draw = StdRng::seed_from_u64(3);
    let mut tensors = random(architecture, 2).expect("random weights");
    for (name, tensor) in &mut tensors {
        let (low, high) = match name.rsplit('.').next() {
            Some("running_var") => (0.5, 1.5),
            Some("running_mean" | "bias") => (-0.2, 0.2),
            _ if tensor.rank() == 1 => (0.6, 1.1),
            _ => continue,
        };
        let values: Vec<f32> =
            (0..tensor.elem_count()).map(|_| draw.random_range(low..high)).collect();
        *tensor = Tensor::from_vec(values, tensor.dims(), &Device::Cpu).expect("a tensor");
    }
    tensors
}

pub(crate) fn open(bytes: &[u8]) -> Network {
    // Field 1 of `ModelProto`, the version of the format, is 8, and field 8 holds opset 17, whose
    // version that is: what declares more is refused by ONNX Runtime up to 1.14.
    assert_eq!(bytes[..2], [0x08, 8], "the version of the format");
    assert!(bytes.windows(4).any(|window| window == [0x42, 2, 0x10, 17]), "opset 17");
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), bytes).expect("written");
    let compute = Compute { onnx_runtime: None, device: lvmed::config::Device::Cpu, threads: 2 };
    let runtime = Runtime::load(&compute).expect("ONNX Runtime is installed");
    runtime.open(file.path(), 2).expect("the file loads")
}

pub(crate) fn difference(found: &[f32], wanted: &[f32]) -> f32 {
    assert_eq!(found.len(), wanted.len());
    let largest = wanted.iter().fold(f32::MIN_POSITIVE, |most, value| most.max(value.abs()));
    found.iter().zip(wanted).fold(0.0_f32, |most, (one, other)| most.max((one - other).abs()))
        / largest
}

pub(crate) fn softmax(logits: &[f32]) -> Vec<f32> {
    let largest = logits.iter().copied().fold(f32::MIN, f32::max);
    let powers: Vec<f32> = logits.iter().map(|logit| (logit - largest).exp()).collect();
    let sum: f32 = powers.iter().sum();
    powers.iter().map(|power| power / sum).collect()
}

/// Holds an exported network against candle, and each of its outputs against the others.
fn exports_what_candle_computes(architecture: Architecture) {
    let tensors = trained_looking(architecture);
    let dimensions = architecture.embedding_size();
    let mut draw = StdRng::seed_from_u64(4);
    let weights = normal(&mut draw, CLASSES * dimensions, 0.05);
    let bias = vec![0.3, -0.2, 0.0];
    let weight = Tensor::from_slice(&weights, (CLASSES, dimensions), &Device::Cpu).expect("W");
    let head =
        Head { weight: &weight, bias: &Tensor::new(bias.as_slice(), &Device::Cpu).expect("b") };
    let input: Vec<f32> = (0..3 * 3 * SIZE * SIZE).map(|_| draw.random_range(-2.0..2.0)).collect();
    let metadata = BTreeMap::new();
    let size = SIZE as u32;
    let what = Export { architecture, tensors: &tensors, size, head: None, metadata: &metadata };

    let mut plain = open(&export(&what).expect("written"));
    let mut headed = open(&export(&Export { head: Some(head), ..what }).expect("written"));
    let params = Params::new(&tensors, DType::F32, &Device::Cpu).expect("parameters");
    let network = Encoder::new(architecture, &params).expect("a network");
    let pictures = Tensor::from_slice(&input, (3, 3, SIZE, SIZE), &Device::Cpu).expect("pictures");
    let candle = network.forward(&pictures, Mode::Frozen).expect("features");

    let found = plain.run(&input, 3).expect("it runs");
    assert_eq!(found.probabilities, None);
    assert!(difference(&found.embedding, &values(&candle.embedding)) < TOLERANCE);
    let map = plain.feature_map(&input, 3).expect("it runs");
    assert!(difference(&map, &values(&candle.feature_map)) < TOLERANCE);
    let places = (SIZE / 32) * (SIZE / 32);
    let means: Vec<f32> =
        map.chunks_exact(places).map(|one| one.iter().sum::<f32>() / places as f32).collect();
    assert!(difference(&means, &found.embedding) < 1e-5, "the embedding is not the map's mean");

    let headed_found = headed.run(&input, 3).expect("it runs");
    assert!(difference(&headed_found.embedding, &found.embedding) < 1e-5);
    let probabilities = headed_found.probabilities.expect("it has a head");
    for (image, picture) in input.chunks_exact(3 * SIZE * SIZE).enumerate() {
        let alone = headed.run(picture, 1).expect("it runs");
        let embedding = &found.embedding[image * dimensions..][..dimensions];
        assert!(difference(&alone.embedding, embedding) < 1e-5, "batch of 1 and of 3 differ");
        let logits: Vec<f32> = weights
            .chunks_exact(dimensions)
            .zip(&bias)
            .map(|(row, b)| row.iter().zip(embedding).map(|(w, f)| w * f).sum::<f32>() + b)
            .collect();
        let own = &probabilities[image * CLASSES..][..CLASSES];
        assert!(difference(own, &softmax(&logits)) < TOLERANCE, "{own:?} of {logits:?}");
        assert!(difference(&alone.probabilities.expect("it has a head"), own) < TOLERANCE);
    }
}

#[test]
fn exported_resnet18_answers_as_candle_does() {
    exports_what_candle_computes(Architecture::RESNET18);
}

#[test]
fn exported_resnet34_answers_as_candle_does() {
    exports_what_candle_computes(Architecture::RESNET34);
}

#[test]
fn exported_resnet50_answers_as_candle_does() {
    exports_what_candle_computes(Architecture::RESNET50);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_backbone_is_imported_once_whatever_file_it_comes_in() {
    let server = App::start().await;
    let post = async |file: &Path, name: &str, status| {
        let form = reqwest::multipart::Form::new()
            .text("name", name.to_owned())
            .text("source_url", "https://example.org/weights")
            .text("license", "none: random weights")
            .text("size", "64")
            .part("file", reqwest::multipart::Part::bytes(std::fs::read(file).expect("read")));
        let request = server.request(Method::POST, "/api/v1/backbones").multipart(form);
        server.expect(request, status).await
    };
    let tensors = resnet18();
    let plain = server.folder.path().join("plain.safetensors");
    write(&tensors, &BTreeMap::new(), &plain).expect("written");
    let torch = server.folder.path().join("weights.pth");
    std::fs::write(&torch, torch_zip(&renamed(&tensors, "module."), None)).expect("written");
    let broken = server.folder.path().join("broken.pth");
    std::fs::write(&broken, legacy_pickle(&tensors)).expect("written");

    let first = post(&plain, "one", StatusCode::CREATED).await;
    let second = post(&plain, "one", StatusCode::OK).await;
    let other_name = post(&plain, "two", StatusCode::CREATED).await;
    let other_file = post(&torch, "three", StatusCode::CREATED).await;
    let refused = post(&broken, "four", StatusCode::UNPROCESSABLE_ENTITY).await;

    assert_eq!(first, second);
    assert_ne!(first["id"], other_name["id"]);
    assert_eq!(first["onnx_sha256"], other_name["onnx_sha256"]);
    assert_eq!(first["embedding_size"], 512);
    assert!(first["parity"]["max_relative_difference"].as_f64().expect("a number") < 1e-3);
    assert_ne!(first["source_sha256"], other_file["source_sha256"]);
    assert!(other_file["notices"].to_string().contains("module."), "{other_file:#}");
    assert!(refused["detail"].as_str().expect("a text").contains("legacy"), "{refused:#}");
    let listed = server.get("/api/v1/backbones").await;
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_holds_a_backtrace_or_a_path_of_the_build_even_when_traces_are_asked_for() {
    let server = Server::start_with(&[("LVMED_WORKERS", "0"), ("RUST_BACKTRACE", "1")]);
    let whole = torch_zip(&resnet18(), None);
    let mut odd = whole.clone();
    let at = odd.windows(3).position(|part| part == b"\x80\x02c").expect("the pickle is stored");
    odd[at + 2] = 0xff;
    let mut headless = 4_u64.to_le_bytes().to_vec();
    headless.extend_from_slice(b"{\"a\"and more");
    let files =
        [b"PK\x03\x04 and so on".to_vec(), whole[..whole.len() / 2].to_vec(), odd, headless];

    for file in files {
        let answer = server.import("broken", SIZE as u32, file).send().await.expect("an answer");

        let (status, text) = (answer.status(), answer.text().await.expect("a whole answer"));
        assert!(status.is_client_error(), "{status}: {text}");
        for sign in ["backtrace", ".rs", "/root", "candle_core::", "\\n   "] {
            assert!(!text.contains(sign), "{sign:?} in {text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_for_volumes_are_refused_in_a_sentence_that_programs_know_too() {
    let server = App::start().await;
    let files = Files::new();
    let mut deep = resnet18();
    for tensor in deep.values_mut().filter(|tensor| tensor.rank() == 4) {
        *tensor = Tensor::stack(&[&*tensor, &*tensor], 2).expect("two halves");
    }
    let deep = std::fs::read(files.safetensors(&deep)).expect("read");
    let mut foreign = resnet18();
    for number in 0..80 {
        foreign.insert(format!("decoder.{number}.weight"), filled(&[2], 0.0));
    }
    let foreign = std::fs::read(files.safetensors(&foreign)).expect("read");
    let invalid = (StatusCode::UNPROCESSABLE_ENTITY, "invalid");

    let refused = server.refused(server.import("deep", 64, deep), invalid, &["3-D"]).await;
    let told = ["does not fit resnet18: 80 are unknown to it (decoder.0.weight, "];
    let listed = server.refused(server.import("foreign", 64, foreign), invalid, &told).await;

    assert_eq!(refused["errors"][0]["pointer"], "/collapse_depth", "{refused:#}");
    assert_eq!(refused["errors"].as_array().map(Vec::len), Some(1), "{refused:#}");
    assert!(!refused["detail"].to_string().contains("\\n"), "{refused:#}");
    let errors = listed["errors"].as_array().expect("a list");
    assert_eq!(errors.len(), 51, "{listed:#}");
    assert_eq!(errors[50]["detail"], "and 30 more", "{listed:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backbone_of_random_weights_is_made_on_the_server_the_same_for_the_same_seed() {
    let server = App::start().await;
    let make = |name: &str, seed: u64| {
        let wanted = serde_json::json!({"name": name, "architecture": "resnet18", "seed": seed,
                                        "size": 64});
        server.request(Method::POST, "/api/v1/backbones/random").json(&wanted)
    };

    let first = server.expect(make("random", 0), StatusCode::CREATED).await;
    let again = server.expect(make("random", 0), StatusCode::OK).await;
    let other = server.expect(make("another", 1), StatusCode::CREATED).await;

    assert_eq!(first, again);
    assert_ne!(first["weights_sha256"], other["weights_sha256"]);
    assert_eq!(first["preprocessing"]["size"], 64);
    assert_eq!(first["license"], "none: random weights");
    assert!(first["source_url"].to_string().contains("seed 0"), "{first:#}");
    let wanted = serde_json::json!({"name": "odd", "architecture": "resnet18", "size": 33});
    let odd = server.request(Method::POST, "/api/v1/backbones/random").json(&wanted);
    let invalid = (StatusCode::UNPROCESSABLE_ENTITY, "invalid");
    let refused = server.refused(odd, invalid, &["33"]).await;
    assert_eq!(refused["errors"][0]["pointer"], "/size", "{refused:#}");
}
