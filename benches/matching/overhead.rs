//! The cost of matching in a pretraining step: graphs, affinities, both solutions and the gradient,
//! as a share of the whole step of a ResNet-50 at 224 pixels.

use std::time::Instant;

use candle_core::{DType, Device, Tensor, Var};
use lvmed::domain::Architecture;
use lvmed::domain::pretrain::Objective as Asked;
use lvmed::nn::weights::random;
use lvmed::nn::{Encoder, Features, Mode, Params, with_threads};
use lvmed::training::objective::{Crop, Moment, Objective, Shown, View, objective};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::report::median;

pub(crate) const NAME: &str = "overhead";
/// Images of a batch; each is two views, and sixteen make a pair of graphs.
const IMAGES: [usize; 2] = [32, 64];
const SIDE: usize = 224;
/// Measured steps behind every median.
const STEPS: u64 = 3;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Prints a line for each size of a batch.
pub(crate) fn measure() -> Result<Vec<String>, Failure> {
    let threads = std::thread::available_parallelism()?.get();
    with_threads(threads, || IMAGES.iter().map(|images| compare(*images, threads)).collect())?
}

fn compare(images: usize, threads: usize) -> Result<String, Failure> {
    let mut objective = objective(&Asked::default(), images);
    let mut tensors = random(Architecture::RESNET50, 0)?;
    let channels = (Architecture::RESNET50.embedding_size(), Architecture::RESNET50.map_channels());
    tensors.extend(objective.initial(0, channels.0, channels.1)?);
    let params = Params::new(&tensors, DType::F32, &Device::Cpu)?;
    let network = Encoder::new(Architecture::RESNET50, &params)?;
    let mut random = StdRng::seed_from_u64(0);
    let values = (0..2 * images * 3 * SIDE * SIDE).map(|_| random.random_range(-2.0_f32..2.0));
    let pictures =
        Tensor::from_vec(values.collect::<Vec<_>>(), (2 * images, 3, SIDE, SIDE), &Device::Cpu)?;

    let (mut whole, mut outside) = (Vec::new(), Vec::new());
    // The first step warms up.
    for step in 0..=STEPS {
        let begun = Instant::now();
        let features = network.forward(&pictures, Mode::Train)?;
        let loss = loss(objective.as_mut(), &params, &features, images, step)?;
        network.backward(&loss, &params)?;
        let seconds = begun.elapsed().as_secs_f64();
        drop(loss);
        let alone = alone(objective.as_mut(), &params, &features, images, step)?;
        if step > 0 {
            whole.push(seconds);
            outside.push(alone);
        }
    }
    let (whole, outside) = (1e3 * median(whole), 1e3 * median(outside));
    Ok(format!(
        "{{\"bench\":\"match/overhead/{images}\",\"ours\":{outside:.1},\"peer\":{whole:.1},\"ratio\":{:.4},\
         \"unit\":\"ms\",\"better\":\"lower\",\"threads\":{threads}}}",
        outside / whole
    ))
}

/// Seconds of everything beside the backbone: from its features to their gradients.
fn alone(
    objective: &mut dyn Objective,
    params: &Params,
    features: &Features,
    images: usize,
    step: u64,
) -> Result<f64, Failure> {
    let leaf = |tensor: &Tensor| Var::from_tensor(&tensor.detach());
    let leaves = (leaf(&features.embedding)?, leaf(&features.feature_map)?);
    let features = Features {
        embedding: leaves.0.as_tensor().clone(),
        feature_map: leaves.1.as_tensor().clone(),
    };
    let begun = Instant::now();
    loss(objective, params, &features, images, step)?.backward()?;
    Ok(begun.elapsed().as_secs_f64())
}

fn loss(
    objective: &mut dyn Objective,
    params: &Params,
    both: &Features,
    images: usize,
    step: u64,
) -> Result<Tensor, Failure> {
    let side = SIDE as f32;
    let whole = Crop { top: 0.0, left: 0.0, height: side, width: side, flipped: false };
    let part = Crop { top: 40.0, left: 20.0, height: 0.7 * side, width: 0.8 * side, flipped: true };
    let view = |at: usize, crop: Crop| -> candle_core::Result<View> {
        let features = Features {
            embedding: both.embedding.narrow(0, at * images, images)?,
            feature_map: both.feature_map.narrow(0, at * images, images)?,
        };
        Ok(View { features, crops: vec![crop; images] })
    };
    let views = [view(0, whole)?, view(1, part)?];
    let shown = Shown { views: &views, teacher: None };
    let moment = Moment { seed: 0, step, steps: STEPS + 1, part: 0 };
    Ok(objective.loss(params, None, &shown, moment)?.loss)
}
