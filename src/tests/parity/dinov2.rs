//! DINOv2's transformers: interpolated positions, embedding, map, loss and every gradient, with registers and
//! without.

use std::collections::BTreeMap;

use candle_core::DType;
use lvmed::nn::Mode;
use lvmed::nn::backbone::dinov2::{Interpolation, Layout, shares};
use lvmed::nn::backbone::family::Family;
use serde::Deserialize;

use super::fixture::{Network, Summary, read};
use super::networks::{Subject, parameters};

const DOUBLE: f64 = 1e-9;
const SINGLE: f64 = 1e-4;

/// The values that `scripts/fixtures/dinov2.py` wrote down.
#[derive(Deserialize)]
struct Fixture {
    layout: Shape,
    cases: BTreeMap<String, Case>,
    matrices: BTreeMap<String, Matrix>,
}

#[derive(Deserialize)]
struct Shape {
    patch: usize,
    channels: usize,
    hidden: usize,
    depth: usize,
    heads: usize,
    grid: usize,
}

#[derive(Deserialize)]
struct Case {
    #[serde(flatten)]
    network: Network,
    registers: usize,
    antialias: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Matrix {
    Whole(Vec<Vec<f64>>),
    Summary(Summary),
}

fn interpolation(is_antialiased: bool) -> Interpolation {
    if is_antialiased { Interpolation::Antialiased } else { Interpolation::Clamped }
}

#[test]
fn small_dinov2_transformers_compute_what_pytorch_does_at_every_size() {
    let Fixture { layout, cases, .. } = read("dinov2");
    let Shape { patch, channels, hidden, depth, heads, grid } = layout;
    assert_eq!(hidden, 4 * channels);
    for (name, Case { network: wanted, registers, antialias }) in &cases {
        let interpolation = interpolation(*antialias);
        let layout = Layout {
            patch,
            channels,
            depth,
            heads,
            grid,
            registers: *registers,
            interpolation,
            ..Layout::SMALL
        };
        for (dtype, tolerance) in [(DType::F64, DOUBLE), (DType::F32, SINGLE)] {
            let subject = || {
                let params = parameters(layout.tensors(), 2 * channels, dtype);
                let network = layout.build(&params, None).expect("a network").into();
                Subject::new((params, network), &wanted.pictures, dtype, Mode::Train)
            };
            subject().assert_is(wanted, tolerance);
            for optimiser in wanted.steps.keys() {
                subject().assert_steps(wanted, optimiser, tolerance);
            }
        }
        assert!(wanted.feature_map.is_some(), "{name}");
    }
    assert_eq!(cases.len(), 9);
}

#[test]
fn positions_are_interpolated_as_pytorch_does() {
    let Fixture { matrices, .. } = read("dinov2");
    assert_eq!(matrices.len(), 12);
    for (name, wanted) in &matrices {
        let (kind, lengths) = name.split_once('/').expect("a kind");
        let (from, to) = lengths.split_once(',').expect("two lengths");
        let lengths = [from, to].map(|length| length.parse::<usize>().expect("a length"));
        let found = shares(lengths[0], lengths[1], interpolation(kind == "antialiased"));
        match wanted {
            Matrix::Whole(rows) => {
                let wanted: Vec<f64> = rows.iter().flatten().copied().collect();
                assert_eq!(found.len(), wanted.len(), "{name}");
                for (found, wanted) in found.iter().zip(wanted) {
                    assert!((found - wanted).abs() < 1e-12, "{name}: {found} {wanted}");
                }
            }
            Matrix::Summary(wanted) => {
                let shape = (lengths[1], lengths[0]);
                let cpu = candle_core::Device::Cpu;
                let found = candle_core::Tensor::from_vec(found, shape, &cpu).expect("a matrix");
                wanted.assert_is(name, &found, 1e-12);
            }
        }
    }
}
