//! Losses and gradients of the pretraining objectives in 64-bit arithmetic, against what
//! `scripts/objective_reference.py` wrote down.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor, Var};
use lvmed::domain::pretrain::{Barlow, Dino, Moco, Objective, SimClr, Vicregl};
use lvmed::nn::{Features, Params, Tensors, with_threads};
use lvmed::training::objective::{Crop, Moment, Shown, View, objective};
use serde::Deserialize;

use super::draw::{draw, exact, weights};
use super::fixture::{Summary, read_from};

/// Relative differences allowed in the loss and in gradients. What PyTorch leaves out is the 10⁻¹²
/// under the root of lengths, which a vector of length 0.02 feels at 10⁻⁹.
const TOLERANCE: f64 = 1e-8;
const IMAGES: usize = 5;
const EMBEDDING: usize = 6;
const MAP: usize = 4;
const HIDDEN: u32 = 7;
/// Keys in MoCo's queue: of three batches of two views, not all fit.
const QUEUE: u32 = 16;

/// Successive batches of one objective.
#[derive(Debug, Deserialize)]
struct Recorded {
    /// Rows and columns of the feature map of each view.
    sides: Vec<usize>,
    batches: Vec<Batch>,
}

#[derive(Debug, Deserialize)]
struct Batch {
    /// For each view and image.
    crops: Vec<Vec<Cut>>,
    loss: f64,
    gradients: BTreeMap<String, Summary>,
}

/// Top, left, height, width and whether it is mirrored.
type Cut = (f32, f32, f32, f32, bool);

/// Features of a view as leaves of the graph.
struct Leaves {
    embedding: Var,
    map: Var,
    crops: Vec<Crop>,
}

impl Leaves {
    fn new(batch: usize, number: usize, side: usize, recorded: &Batch) -> Self {
        let leaf = |what: &str, shape: &[usize]| {
            Var::from_tensor(&exact(&format!("{batch}/view/{number}/{what}"), shape)).expect("leaf")
        };
        let crop = |(top, left, height, width, flipped)| Crop { top, left, height, width, flipped };
        Self {
            embedding: leaf("embedding", &[IMAGES, EMBEDDING]),
            map: leaf("map", &[IMAGES, MAP, side, side]),
            crops: recorded.crops[number].iter().copied().map(crop).collect(),
        }
    }

    fn view(&self) -> View {
        let features = Features {
            embedding: self.embedding.as_tensor().clone(),
            feature_map: self.map.as_tensor().clone(),
        };
        View { features, crops: self.crops.clone() }
    }
}

fn params(tensors: &Tensors) -> Params {
    Params::new(tensors, DType::F64, &Device::Cpu).expect("parameters")
}

/// Parameters of the network and of its teacher, drawn by their names.
fn drawn(initial: &Tensors) -> (Params, Params) {
    let shapes = |prefix: &str| -> Vec<(String, Vec<usize>)> {
        let shape = |(name, tensor): (&String, &Tensor)| {
            (format!("{prefix}{name}"), tensor.dims().to_vec())
        };
        initial.iter().map(shape).collect()
    };
    let tensors = |prefix: &str| {
        let shapes = shapes(prefix);
        let named = weights(shapes.iter().map(|(name, shape)| (name, shape)));
        let own = |(name, tensor): (String, Tensor)| (name[prefix.len()..].to_owned(), tensor);
        named.into_iter().map(own).collect::<Tensors>()
    };
    (params(&tensors("")), params(&tensors("teacher/")))
}

fn moment(step: usize) -> Moment {
    Moment { seed: 0, step: step as u64, steps: 10, part: 0 }
}

fn check(name: &str, spec: &Objective) {
    let recorded: Recorded = read_from("objectives", name);
    let mut objective = objective(spec, 1000);
    let (own, teacher) = drawn(&objective.initial(0, EMBEDDING, MAP).expect("parameters"));
    if let Objective::MocoV2(_) = spec {
        objective.restore(&queue()).expect("restored");
    }
    for (step, batch) in recorded.batches.iter().enumerate() {
        let sides = recorded.sides.iter().enumerate();
        let leaves: Vec<Leaves> =
            sides.map(|(number, side)| Leaves::new(step, number, *side, batch)).collect();
        let views: Vec<View> = leaves.iter().map(Leaves::view).collect();
        let taught = [0, 1].map(|at| exact(&format!("{step}/taught/{at}"), &[IMAGES, EMBEDDING]));
        let shown = Shown { views: &views, teacher: Some(&taught) };

        let scored = objective.loss(&own, Some(&teacher), &shown, moment(step)).expect("a loss");

        let loss = scored.loss.to_scalar::<f64>().expect("a number");
        assert!(
            (loss - batch.loss).abs() <= TOLERANCE * batch.loss.abs(),
            "{name}, batch {step}: {loss}, by PyTorch {}",
            batch.loss
        );
        let store = scored.loss.backward().expect("gradients");
        let mut found: Vec<(String, &Var)> =
            own.iter().map(|(name, variable)| (name.to_owned(), variable)).collect();
        for (number, leaves) in leaves.iter().enumerate() {
            found.push((format!("view/{number}/embedding"), &leaves.embedding));
            found.push((format!("view/{number}/map"), &leaves.map));
        }
        let with_gradient = found.iter().filter(|(_, variable)| store.get(variable).is_some());
        let names: Vec<&String> = with_gradient.map(|(name, _)| name).collect();
        let mut sorted = names.clone();
        sorted.sort();
        assert_eq!(sorted, batch.gradients.keys().collect::<Vec<_>>(), "{name}, batch {step}");
        for (what, variable) in &found {
            if let (Some(wanted), Some(gradient)) = (batch.gradients.get(what), store.get(variable))
            {
                wanted.assert_is(&format!("{name}, batch {step}, {what}"), gradient, TOLERANCE);
            }
        }
        assert!(teacher.iter().all(|(_, variable)| store.get(variable).is_none()));
    }
}

/// The queue that the written numbers begin with.
fn queue() -> Tensors {
    let queue = exact("queue", &[QUEUE as usize, 4]);
    let lengths = queue.sqr().and_then(|squares| squares.sum_keepdim(1)).and_then(|sum| sum.sqrt());
    let queue = queue.broadcast_div(&lengths.expect("lengths")).expect("directions");
    Tensors::from([("objective.queue".to_owned(), queue)])
}

#[test]
fn simclr_agrees_with_pytorch() {
    let spec = SimClr { hidden: HIDDEN, output: 4, temperature: 0.3 };
    check("simclr", &Objective::Simclr(spec));
}

#[test]
fn barlow_twins_agree_with_pytorch_with_fewer_channels_than_images_and_with_more() {
    for (name, output) in [("barlow_few", 4), ("barlow_many", 9)] {
        let spec = Barlow { hidden: HIDDEN, output, redundancy: 0.02 };
        check(name, &Objective::BarlowTwins(spec));
    }
}

fn vicregl(output: u32) -> Vicregl {
    Vicregl {
        hidden: HIDDEN,
        output,
        alpha: 0.75,
        gamma: 4,
        invariance: 25.0,
        variance: 20.0,
        covariance: 1.5,
    }
}

#[test]
fn vicregl_agrees_with_pytorch_with_and_without_small_crops() {
    check("vicregl", &Objective::Vicregl(vicregl(8)));
    check("vicregl_small", &Objective::Vicregl(vicregl(3)));
}

#[test]
fn moco_agrees_with_pytorch_while_its_queue_moves_on() {
    let spec = Moco { hidden: HIDDEN, output: 4, temperature: 0.2, momentum: 0.99, queue: QUEUE };
    check("moco", &Objective::MocoV2(spec));
}

#[test]
fn dino_agrees_with_pytorch_while_its_centre_moves() {
    let spec = Dino {
        hidden: HIDDEN,
        bottleneck: 4,
        output: 8,
        temperature: 0.1,
        teacher_temperature: 0.05,
        momentum: 0.996,
        centre_momentum: 0.8,
    };
    check("dino", &Objective::Dino(spec));
}

#[test]
fn the_gradient_of_vicregl_is_the_slope_of_its_loss() {
    let recorded: Recorded = read_from("objectives", "vicregl_small");
    let mut objective = objective(&Objective::Vicregl(vicregl(3)), 1000);
    let (own, _) = drawn(&objective.initial(0, EMBEDDING, MAP).expect("parameters"));
    let leaves: Vec<Leaves> = recorded
        .sides
        .iter()
        .enumerate()
        .map(|(number, side)| Leaves::new(0, number, *side, &recorded.batches[0]))
        .collect();
    let mut loss = || {
        let views: Vec<View> = leaves.iter().map(Leaves::view).collect();
        let shown = Shown { views: &views, teacher: None };
        objective.loss(&own, None, &shown, moment(0)).expect("a loss").loss
    };
    let store = loss().backward().expect("gradients");
    let norm = own.get("objective.cells.1.norm.weight").expect("a parameter");

    // Losses this small are computed faster than threads wake up.
    with_threads(1, || {
        for variable in [&leaves[0].embedding, &leaves[0].map, &leaves[2].map, norm] {
            let flat = |tensor: &Tensor| {
                tensor.flatten_all().and_then(|flat| flat.to_vec1::<f64>()).expect("values")
            };
            let start = flat(variable);
            let slopes = flat(store.get(variable).expect("a gradient"));
            for (at, slope) in slopes.iter().enumerate().step_by(3) {
                let mut moved = |by: f64| {
                    let mut values = start.clone();
                    values[at] += by;
                    let values = Tensor::from_vec(values, variable.shape(), &Device::Cpu);
                    variable.set(&values.expect("a tensor")).expect("set");
                    loss().to_scalar::<f64>().expect("a number")
                };
                let wanted = (moved(1e-6) - moved(-1e-6)) / 2e-6;
                moved(0.0);
                let difference = (slope - wanted).abs();
                assert!(difference <= 1e-6 * wanted.abs().max(1.0), "{slope} {wanted}");
            }
        }
    })
    .expect("a pool of one thread");
}

#[test]
fn the_same_batch_in_32_bits_gives_the_same_loss() {
    let recorded: Recorded = read_from("objectives", "vicregl");
    let mut objective = objective(&Objective::Vicregl(vicregl(8)), 1000);
    let initial = objective.initial(0, EMBEDDING, MAP).expect("parameters");
    let shapes: Vec<(String, Vec<usize>)> =
        initial.iter().map(|(name, tensor)| (name.clone(), tensor.dims().to_vec())).collect();
    let tensors = weights(shapes.iter().map(|(name, shape)| (name, shape)));
    let own = Params::new(&tensors, DType::F32, &Device::Cpu).expect("parameters");
    let view = |(number, side): (usize, &usize)| {
        let of =
            |what: &str, shape: &[usize]| draw(&format!("0/view/{number}/{what}"), shape, 1.0, 0.0);
        let embedding = of("embedding", &[IMAGES, EMBEDDING]);
        let feature_map = of("map", &[IMAGES, MAP, *side, *side]);
        let crops = Leaves::new(0, number, *side, &recorded.batches[0]).crops;
        View { features: Features { embedding, feature_map }, crops }
    };
    let views: Vec<View> = recorded.sides.iter().enumerate().map(view).collect();

    let shown = Shown { views: &views, teacher: None };
    let scored = objective.loss(&own, None, &shown, moment(0)).expect("a loss");

    let loss = f64::from(scored.loss.to_scalar::<f32>().expect("a number"));
    let wanted = recorded.batches[0].loss;
    assert!((loss - wanted).abs() < 1e-5 * wanted, "{loss} {wanted}");
}
