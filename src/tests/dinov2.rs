//! DINOv2's transformers: names of checkpoints, what every method trains, export, threads.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use lvmed::domain::Architecture;
use lvmed::nn::backbone::dinov2::Layout;
use lvmed::nn::backbone::family::Family;
use lvmed::nn::kernel::draw::normal;
use lvmed::nn::ops::linear;
use lvmed::nn::weights::WeightsError;
use lvmed::nn::{Encoder, Mode, Params, Tensors, lora};
use lvmed::onnx::{Export, Head, export};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::importing::{Files, assert_equal, difference, filled, open, softmax};

/// Candle and ONNX Runtime add up the same numbers in other orders.
const TOLERANCE: f32 = 1e-4;

fn tiny(registers: usize) -> Layout {
    let small = Layout { patch: 4, channels: 24, depth: 3, heads: 3, grid: 5, ..Layout::SMALL };
    match registers {
        0 => small,
        _ => Layout { registers, ..small.with_registers("dinov2_tiny_reg", "Tiny with registers") },
    }
}

/// Weights with nothing at a special value, and a head of three classes.
fn weights(layout: &Layout) -> Tensors {
    let mut draw = StdRng::seed_from_u64(3);
    let mut tensor = |shape: &[usize]| {
        let values = normal(&mut draw, shape.iter().product(), 0.2);
        Tensor::from_vec(values, shape, &Device::Cpu).expect("a tensor")
    };
    let mut tensors: Tensors =
        layout.tensors().into_iter().map(|(name, shape)| (name, tensor(&shape))).collect();
    tensors.insert("fc.weight".to_owned(), tensor(&[3, 2 * layout.channels]));
    tensors.insert("fc.bias".to_owned(), tensor(&[3]));
    tensors
}

fn pictures(count: usize, size: usize) -> Vec<f32> {
    let mut draw = StdRng::seed_from_u64(4);
    (0..count * 3 * size * size).map(|_| draw.random_range(-2.0..2.0)).collect()
}

fn batch(count: usize, size: usize) -> Tensor {
    let shape = (count, 3, size, size);
    Tensor::from_vec(pictures(count, size), shape, &Device::Cpu).expect("pictures")
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().and_then(|flat| flat.to_vec1()).expect("values")
}

fn network(layout: &Layout, tensors: &Tensors, alpha: Option<f64>) -> Encoder {
    let params = Params::new(tensors, DType::F32, &Device::Cpu).expect("parameters");
    layout.build(&params, alpha).expect("a network").into()
}

/// The names that Hugging Face's `Dinov2Model` has for the authors'; queries, keys and values apart.
fn of_hugging_face(tensors: &Tensors) -> Tensors {
    let mut given = Tensors::new();
    for (name, tensor) in tensors {
        let name = name
            .replace("cls_token", "embeddings.cls_token")
            .replace("register_tokens", "embeddings.register_tokens")
            .replace("pos_embed", "embeddings.position_embeddings")
            .replace("patch_embed.proj", "embeddings.patch_embeddings.projection")
            .replace("blocks.", "encoder.layer.")
            .replace("attn.proj", "attention.output.dense")
            .replace("ls1.gamma", "layer_scale1.lambda1")
            .replace("ls2.gamma", "layer_scale2.lambda1");
        let name = match name.strip_prefix("norm.") {
            Some(end) => format!("layernorm.{end}"),
            None => name,
        };
        if name.contains("attn.qkv") {
            let parts = tensor.chunk(3, 0).expect("three parts");
            for (part, own) in parts.into_iter().zip(["query", "key", "value"]) {
                let own = format!("attention.attention.{own}");
                given.insert(name.replace("attn.qkv", &own), part);
            }
        } else {
            given.insert(name, tensor.clone());
        }
    }
    given
}

/// Weights of the smallest architecture, no two tensors alike.
fn small(architecture: Architecture) -> Tensors {
    let shapes = architecture.tensors().into_iter().enumerate();
    let tensor = |(at, (name, shape)): (usize, (String, Vec<usize>))| {
        let values = filled(&shape, 0.0).flatten_all().expect("flat");
        let count = values.elem_count();
        let counted: Vec<f32> = (0..count).map(|value| at as f32 + (value % 97) as f32).collect();
        (name, Tensor::from_vec(counted, shape, &Device::Cpu).expect("a tensor"))
    };
    shapes.map(tensor).collect()
}

#[test]
fn checkpoints_are_known_by_the_names_of_the_authors_and_of_hugging_face() {
    let files = Files::new();
    for architecture in [Architecture::DINOV2_VITS14, Architecture::DINOV2_VITS14_REG] {
        let plain = small(architecture);
        let prefixed = |prefix: &str, tensors: &Tensors| -> Tensors {
            let with = tensors.iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor));
            with.map(|(name, tensor)| (name, tensor.clone())).collect()
        };
        let mut masked = plain.clone();
        masked.insert("mask_token".to_owned(), filled(&[1, 384], 0.1));
        let mut backbone = of_hugging_face(&plain);
        backbone.insert("embeddings.mask_token".to_owned(), filled(&[1, 384], 0.1));
        let mut classifier = prefixed("dinov2.", &backbone);
        classifier.insert("classifier.weight".to_owned(), filled(&[5, 768], 0.1));
        classifier.insert("classifier.bias".to_owned(), filled(&[5], 0.1));
        let chunked = plain.iter().map(|(name, tensor)| {
            let block = name.strip_prefix("blocks.").and_then(|rest| rest.split_once('.'));
            let chunk = block.and_then(|(block, _)| block.parse::<usize>().ok());
            let name = match chunk {
                Some(block) => name.replacen("blocks.", &format!("blocks.{}.", block / 4), 1),
                None => name.clone(),
            };
            (format!("backbone.{name}"), tensor.clone())
        });
        let chunked: Tensors = chunked.collect();
        for (given, told) in [
            (&masked, "mask_token"),
            (&backbone, "joined queries"),
            (&classifier, "dropped what only training uses: classifier.bias and 2 more"),
            (&chunked, "`backbone.`"),
        ] {
            let imported = files.read(given).expect("it fits");

            assert_eq!(imported.architecture, architecture);
            assert_equal(&imported.tensors, &plain);
            let notices = imported.notices.join("\n");
            assert!(notices.contains(told), "{told}: {notices}");
        }
    }
}

#[test]
fn a_checkpoint_of_another_grid_is_refused_with_both_shapes() {
    let mut given = small(Architecture::DINOV2_VITS14);
    given.insert("pos_embed".to_owned(), filled(&[1, 257, 384], 0.1));

    let error = Files::new().read(&given).expect_err("another grid");

    assert!(matches!(error, WeightsError::Mismatch { .. }), "{error}");
    let told = error.to_string();
    assert!(told.contains("[1, 257, 384]") && told.contains("[1, 1370, 384]"), "{told}");
}

#[test]
fn odd_checkpoints_are_answered_in_words() {
    let files = Files::new();
    let small = |dims: &[usize]| filled(dims, 0.1);
    let attention = |end: &str| format!("encoder.layer.0.attention.attention.{end}.weight");
    let parts = |key: Tensor| -> Tensors {
        [("query", small(&[4, 4])), ("key", key), ("value", small(&[4, 4]))]
            .into_iter()
            .map(|(end, tensor)| (attention(end), tensor))
            .collect()
    };
    let half = small(&[4, 4]).to_dtype(DType::F16).expect("half");
    let cut = Tensors::from([("reg_token".to_owned(), small(&[1, 4, 4]))]);
    for given in [parts(small(&[])), parts(half), cut] {
        let error = files.read(&given).expect_err("no architecture");
        assert!(matches!(error, WeightsError::UnknownArchitecture { .. }), "{error}");
    }
    // A student and its teacher: the second of each name is told.
    let mut both = small_weights();
    both.insert("dinov2.cls_token".to_owned(), filled(&[1, 1, 384], 0.5));
    let error = files.read(&both).expect_err("two networks").to_string();
    assert!(error.contains("dinov2.cls_token"), "{error}");
}

fn small_weights() -> Tensors {
    small(Architecture::DINOV2_VITS14)
}

#[test]
fn cut_anywhere_it_computes_the_same_whatever_the_registers() {
    for registers in [0, 4] {
        let layout = tiny(registers);
        let encoder = network(&layout, &weights(&layout), None);
        // Fewer columns than tokens before the patches, and more.
        for size in [8, 28] {
            let images = batch(2, size);
            let whole = encoder.infer(&images).expect("features");
            for stages in 0..=layout.depth {
                let entered = encoder.trunk(&images, stages, Mode::Frozen).expect("tokens");
                let cut = encoder.tail(&entered, stages, Mode::Frozen).expect("features");

                let side = size / layout.patch;
                assert_eq!(cut.feature_map.dims(), [2, layout.channels, side, side]);
                assert_eq!(values(&cut.embedding), values(&whole.embedding), "{stages}");
                assert_eq!(values(&cut.feature_map), values(&whole.feature_map), "{stages}");
            }
        }
    }
}

#[test]
fn pictures_without_whole_patches_are_refused() {
    let layout = tiny(0);
    let encoder = network(&layout, &weights(&layout), None);

    let error = encoder.infer(&batch(1, 10)).expect_err("half a patch").to_string();

    assert!(error.contains("no whole patches of 4 pixels"), "{error}");
}

#[test]
fn low_rank_factors_are_merged_into_weights_that_answer_the_same() {
    let layout = tiny(4);
    let mut tensors = weights(&layout);
    lora::insert(&mut tensors, 2, 7).expect("factors");
    let mut draw = StdRng::seed_from_u64(9);
    for (_, up) in tensors.iter_mut().filter(|(name, _)| name.ends_with("lora_b")) {
        let values = normal(&mut draw, up.elem_count(), 0.3);
        *up = Tensor::from_vec(values, up.shape(), &Device::Cpu).expect("a tensor");
    }

    let factored = network(&layout, &tensors, Some(4.0)).infer(&batch(2, 20)).expect("features");
    let merged = lora::merge(&tensors, 4.0).expect("merged");
    let merged = network(&layout, &merged, None).infer(&batch(2, 20)).expect("features");

    let apart = difference(&values(&merged.embedding), &values(&factored.embedding));
    assert!(apart < 1e-5, "{apart}");
}

#[test]
fn features_and_gradients_are_the_same_on_any_number_of_threads() {
    let run = |threads: usize| {
        let work = || {
            let layout = tiny(4);
            let params = Params::new(&weights(&layout), DType::F32, &Device::Cpu).expect("fits");
            let encoder = Encoder::from(layout.build(&params, None).expect("a network"));
            let features = encoder.forward(&batch(3, 20), Mode::Train).expect("features");
            let loss = features.embedding.sqr().and_then(|x| x.sum_all()).expect("a loss");
            let gradients = encoder.backward(&loss, &params).expect("gradients");
            gradients.iter().map(|(_, gradient)| values(gradient)).collect::<Vec<_>>()
        };
        lvmed::nn::with_threads(threads, work).expect("threads")
    };

    assert!(run(1) == run(2), "gradients differ between one and two threads");
}

/// Holds an exported transformer against candle.
fn exports_what_candle_computes(layout: &Layout, (count, size): (usize, usize)) {
    let tensors = weights(layout);
    let head = Head { weight: &tensors["fc.weight"], bias: &tensors["fc.bias"] };
    let what = Export {
        architecture: Architecture::of(Box::leak(Box::new(layout.clone()))),
        tensors: &tensors,
        size: size as u32,
        head: Some(head),
        metadata: &BTreeMap::new(),
    };
    let mut onnx = open(&export(&what).expect("written"));
    let candle = network(layout, &tensors, None).infer(&batch(count, size)).expect("features");
    let input = pictures(count, size);

    let found = onnx.run(&input, count).expect("it runs");
    let map = onnx.feature_map(&input, count).expect("it runs");

    assert!(difference(&found.embedding, &values(&candle.embedding)) < TOLERANCE);
    assert!(difference(&map, &values(&candle.feature_map)) < TOLERANCE);
    let logits = linear(&candle.embedding, head.weight, head.bias).expect("logits");
    let logits = logits.to_vec2::<f32>().expect("values");
    let probabilities: Vec<f32> = logits.iter().flat_map(|logits| softmax(logits)).collect();
    assert!(difference(&found.probabilities.expect("a head"), &probabilities) < TOLERANCE);
}

#[test]
fn an_exported_transformer_answers_as_candle_does_at_any_size() {
    for registers in [0, 4] {
        for size in [8, 20, 28] {
            exports_what_candle_computes(&tiny(registers), (2, size));
        }
    }
    exports_what_candle_computes(&Layout { depth: 2, ..Layout::SMALL }, (1, 224));
}
