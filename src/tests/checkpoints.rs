//! Checkpoints of every kind: those that fit are imported, the others are refused in full.

use std::collections::BTreeMap;
use std::io::{Cursor, Write};

use candle_core::{DType, Device, Tensor};
use lvmed::nn::Tensors;
use lvmed::nn::weights::{load_bytes, to_bytes};
use reqwest::StatusCode;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::app::App;
use crate::pictures::{two_classes, zip};

const INVALID: (StatusCode, &str) = (StatusCode::UNPROCESSABLE_ENTITY, "invalid");

/// The start of what `torch.save` wrote before version 1.6: its magic number, then its protocol.
const LEGACY: &[u8] = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.";

/// A pickle as `torch.save` writes it, in the few opcodes that it needs.
#[derive(Default)]
struct Pickle(Vec<u8>);

impl Pickle {
    fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.raw(b"X").raw(&(text.len() as u32).to_le_bytes()).raw(text.as_bytes())
    }

    fn number(&mut self, number: usize) -> &mut Self {
        let number = i32::try_from(number).expect("a small number");
        self.raw(b"J").raw(&number.to_le_bytes())
    }

    fn numbers(&mut self, numbers: &[usize]) -> &mut Self {
        self.raw(b"(");
        numbers.iter().for_each(|number| {
            self.number(*number);
        });
        self.raw(b"t")
    }

    /// `_rebuild_tensor_v2(storage, 0, shape, strides, False, OrderedDict())`.
    fn tensor(&mut self, storage: usize, shape: &[usize]) -> &mut Self {
        let mut strides = vec![1; shape.len()];
        for at in (1..shape.len()).rev() {
            strides[at - 1] = strides[at] * shape[at];
        }
        self.raw(b"ctorch._utils\n_rebuild_tensor_v2\n((").text("storage");
        self.raw(b"ctorch\nFloatStorage\n").text(&storage.to_string()).text("cpu");
        self.number(shape.iter().product()).raw(b"tQ").number(0).numbers(shape).numbers(&strides);
        self.raw(b"\x89ccollections\nOrderedDict\n)RtR")
    }

    /// A torch zip file of this pickle and its storages.
    fn file(&self, storages: &[Vec<u8>]) -> Vec<u8> {
        let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        let mut add = |name: String, bytes: &[u8]| {
            archive.start_file(name, options).expect("an entry starts");
            archive.write_all(bytes).expect("an entry is written");
        };
        add("archive/data.pkl".to_owned(), &self.0);
        for (number, storage) in storages.iter().enumerate() {
            add(format!("archive/data/{number}"), storage);
        }
        archive.finish().expect("an archive ends").into_inner()
    }
}

/// The tensors as `torch.save({"state_dict": …})` writes them, each under a prefix.
pub(crate) fn torch_zip(tensors: &Tensors, prefix: &str) -> Vec<u8> {
    let (mut pickle, mut storages) = (Pickle::default(), Vec::new());
    pickle.raw(b"\x80\x02}").text("state_dict").raw(b"}(");
    for (name, tensor) in tensors {
        pickle.text(&format!("{prefix}{name}")).tensor(storages.len(), tensor.dims());
        let values = tensor.flatten_all().and_then(|flat| flat.to_vec1::<f32>()).expect("floats");
        storages.push(values.iter().flat_map(|value| value.to_le_bytes()).collect());
    }
    pickle.raw(b"us.").file(&storages)
}

fn safetensors(tensors: &Tensors) -> Vec<u8> {
    to_bytes(tensors, &BTreeMap::new()).expect("they are written")
}

fn zeros(shape: &[usize]) -> Tensor {
    Tensor::zeros(shape, DType::F32, &Device::Cpu).expect("zeros")
}

/// The tensors with one of them replaced.
fn changed(tensors: &Tensors, name: &str, tensor: Tensor) -> Tensors {
    let mut tensors = tensors.clone();
    tensors.insert(name.to_owned(), tensor);
    tensors
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torch_checkpoint_is_the_same_backbone_as_its_safetensors() {
    let server = App::start().await;
    let weights = server.random_weights("resnet18");
    let tensors = load_bytes(&weights).expect("our own file");
    let wrapped = torch_zip(&tensors, "module.backbone.");

    let plain = server.expect(server.import("plain", 64, weights), StatusCode::CREATED).await;
    let torch = server.expect(server.import("torch", 64, wrapped), StatusCode::CREATED).await;

    assert_eq!(torch["architecture"], "resnet18");
    assert_eq!(torch["onnx_sha256"].as_str().map(str::len), Some(64));
    assert_eq!(torch["parameters"], plain["parameters"]);
    let notices = torch["notices"].to_string();
    assert!(notices.contains("`module.`") && notices.contains("`backbone.`"), "{notices}");
    let mut digests = Vec::new();
    for backbone in [&plain, &torch] {
        let path = format!("/api/v1/backbones/{}/embed", backbone["id"].as_str().expect("an id"));
        let request = server.request(reqwest::Method::POST, &path);
        let picture = crate::pictures::png(0, 1, 64);
        let answer = server.expect(request.body(picture), StatusCode::OK).await;
        digests.push(answer["items"][0]["embedding"].to_string());
    }
    assert_eq!(digests[0], digests[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_does_not_fit_is_refused_with_everything_that_is_wrong() {
    let server = App::start().await;
    let weights = server.random_weights("resnet18");
    let tensors = load_bytes(&weights).expect("our own file");
    let mut odd = changed(&tensors, "conv1.weight", zeros(&[64, 1, 7, 7]));
    odd.insert("bn1.bias".to_owned(), zeros(&[32]));
    odd.insert("projector.weight".to_owned(), zeros(&[8, 512]));
    odd.remove("layer4.1.bn2.running_var");
    odd.remove("layer1.0.conv1.weight");
    let nan = (zeros(&[64]) / 0.0).expect("a division");
    let nan = changed(&tensors, "bn1.weight", (nan.clone() - nan).expect("a difference"));
    let infinite = (zeros(&[64]) + f64::INFINITY).expect("a sum");
    let infinite = changed(&tensors, "bn1.weight", infinite);
    let stranger = Tensors::from([("embed.weight".to_owned(), zeros(&[4, 4]))]);
    let mut huge = Pickle::default();
    huge.raw(b"\x80\x02}(").text("conv1.weight");
    huge.raw(b"ctorch._utils\n_rebuild_tensor_v2\n((").text("storage");
    huge.raw(b"ctorch\nFloatStorage\n").text("0").text("cpu").number(4).raw(b"tQ").number(0);
    huge.numbers(&[2_000_000_000, 2_000_000_000, 9]).numbers(&[1, 1, 1]).raw(b"\x89)tRu.");
    let mut short = Pickle::default();
    short.raw(b"\x80\x02}(").text("conv1.weight");
    short.raw(b"ctorch._utils\n_rebuild_tensor_v2\n(").number(1).raw(b"tRu.");
    let marker = server.folder.path().join("ran");
    let mut command = Pickle::default();
    command.raw(b"\x80\x02cposix\nsystem\n(").text(&format!("touch {}", marker.display()));
    command.raw(b"tR.");
    let mut claims = u64::MAX.to_le_bytes().to_vec();
    claims.extend_from_slice(b"{\"a\":1}         ");

    let cases: [(&str, Vec<u8>, &[&str]); 15] = [
        (
            "odd",
            safetensors(&odd),
            &[
                "does not fit resnet18",
                "2 have another shape (bn1.bias is [32], expected [64], conv1.weight is [64, 1, 7, 7]",
                "1 is unknown to it (projector.weight)",
                "layer4.1.bn2.running_var",
                "tensors are missing (layer1.0.conv1.weight",
            ],
        ),
        ("odd torch", torch_zip(&odd, ""), &["missing (layer1.0.conv1.weight", "projector.weight"]),
        ("nan", safetensors(&nan), &["bn1.weight", "not finite"]),
        ("infinite", safetensors(&infinite), &["bn1.weight", "not finite"]),
        ("stranger", safetensors(&stranger), &["none of the known", "1 tensors", "embed.weight"]),
        ("legacy", LEGACY.to_vec(), &["legacy PyTorch checkpoint"]),
        ("text", b"just some text, no weights".to_vec(), &["neither a safetensors file nor"]),
        ("empty", Vec::new(), &["neither a safetensors file nor"]),
        ("cut", weights[..weights.len() / 2].to_vec(), &["cannot be read"]),
        ("claims", claims, &["cannot be read"]),
        ("pictures", two_classes(2, 8), &["neither a safetensors file nor"]),
        ("broken zip", zip(&[])[..10].to_vec(), &["neither a safetensors file nor"]),
        ("huge", huge.file(&[vec![0; 16]]), &["cannot be read", "more bytes than the file"]),
        ("short", short.file(&[vec![0; 16]]), &["cannot be read"]),
        ("command", command.file(&[]), &["neither a safetensors file nor"]),
    ];
    for (name, checkpoint, told) in cases {
        server.refused(server.import(name, 64, checkpoint), INVALID, told).await;
    }

    assert!(!marker.exists(), "a checkpoint ran a command");
    let kept = server.get("/api/v1/backbones").await;
    assert_eq!(kept["items"].as_array().map(Vec::len), Some(0), "{kept:#}");
    server.expect(server.import("whole", 64, weights), StatusCode::CREATED).await;
}
