//! Linear heads on frozen features against scikit-learn's, on the same draws: how well they rank, how
//! often they are right, how honest they are.
//!
//! The peer (`benches/peers/heads.py`) computes features, draws images, fits the references and scores
//! everything; this program fits the product's heads where the peer asks for one.

#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Command, Stdio};

use lvmed::domain::HeadRule;
use lvmed::nn::weights::{self, ReadOptions};
use lvmed::onnx::{Export, export};
use lvmed::training::{Sample, fit};
use serde::Deserialize;
use serde_json::json;

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// Side of the pictures that the convolutional backbone sees, in pixels.
const SIDE: u32 = 96;

/// The requests of the peer.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Ask {
    /// Features of a set, `[rows, columns]` of `f32`, little-endian.
    Load { file: String, columns: usize },
    /// A head fitted to some rows, and its logits of others.
    Fit(Fit),
    /// A line for people, or for comparing over time.
    Print(String),
}

#[derive(Deserialize)]
struct Fit {
    rows: Vec<usize>,
    labels: Vec<usize>,
    patients: Vec<String>,
    classes: usize,
    seed: u64,
    /// None for the rule of recipes that name no head.
    rule: Option<HeadRule>,
    judged: Vec<usize>,
}

fn main() -> Result<(), Failed> {
    let python =
        std::env::var("LVMED_BENCH_PYTHON").map_err(|_| "LVMED_BENCH_PYTHON is not set")?;
    let network = tempfile::Builder::new().suffix(".onnx").tempfile()?;
    std::fs::write(network.path(), backbone()?)?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peers/heads.py");
    let mut peer = Command::new(python)
        .arg(script)
        .arg(network.path())
        .arg(SIDE.to_string())
        .args(std::env::args().skip(1).filter(|argument| !argument.starts_with("--")))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut answers = peer.stdin.take().ok_or("no way in")?;
    let asked = BufReader::new(peer.stdout.take().ok_or("no way out")?);
    let mut features: Vec<Vec<f32>> = Vec::new();
    for line in asked.lines() {
        match serde_json::from_str(&line?)? {
            Ask::Load { file, columns } => {
                features = load(Path::new(&file), columns)?;
                writeln!(answers, "{}", features.len())?;
            }
            Ask::Fit(asked) => writeln!(answers, "{}", json!(fitted(&asked, &features)?))?,
            Ask::Print(text) => println!("{text}"),
        }
        answers.flush()?;
    }
    let ended = peer.wait()?;
    if ended.success() { Ok(()) } else { Err(format!("the peer ended with {ended}").into()) }
}

/// The backbone whose features are asked for, as the product exports it.
fn backbone() -> Result<Vec<u8>, Failed> {
    let file = std::env::var("LVMED_DEMO_WEIGHTS").map_err(|_| "LVMED_DEMO_WEIGHTS is not set")?;
    let options = ReadOptions { architecture: None, collapse_depth: true };
    let read = weights::read(Path::new(&file), options)?;
    Ok(export(&Export {
        architecture: read.architecture,
        tensors: &read.tensors,
        size: SIDE,
        head: None,
        metadata: &BTreeMap::new(),
    })?)
}

fn load(file: &Path, columns: usize) -> Result<Vec<Vec<f32>>, Failed> {
    let bytes = std::fs::read(file)?;
    let (values, _) = bytes.as_chunks::<4>();
    let values: Vec<f32> = values.iter().map(|value| f32::from_le_bytes(*value)).collect();
    Ok(values.chunks(columns).map(<[f32]>::to_vec).collect())
}

/// Logits of the judged rows by the head that is asked for.
fn fitted(asked: &Fit, features: &[Vec<f32>]) -> Result<Vec<Vec<f32>>, Failed> {
    let rows = asked.rows.iter().zip(&asked.labels).zip(&asked.patients);
    let samples: Vec<Sample<'_>> = rows
        .map(|((row, label), patient)| Sample { features: &features[*row], label: *label, patient })
        .collect();
    let mut goes_on = |_: usize, _: usize, _: Option<f64>| ControlFlow::Continue(());
    let probe = fit(&samples, asked.classes, asked.seed, asked.rule, &mut goes_on)?;
    let judged = asked.judged.iter().map(|row| probe.head.probabilities(&features[*row]));
    Ok(judged.collect())
}
