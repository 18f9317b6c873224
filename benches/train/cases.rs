//! The cases that are compared: whole training steps, and single convolutions forward and backward.

use candle_core::{DType, Device, Tensor};
use lvmed::domain::Architecture;
use lvmed::nn::backbone::resnet::engine::measure::Measured;
use lvmed::nn::loss::cross_entropy;
use lvmed::nn::ops::linear;
use lvmed::nn::optim::{Groups, Optimiser, Settings};
use lvmed::nn::weights::random;
use lvmed::nn::{Encoder, Mode, Params};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// One comparison.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) images: usize,
    size: usize,
    kind: Kind,
    /// Floating-point operations of one round, 0 where it is not told.
    pub(crate) flops: f64,
}

#[derive(Clone, Copy)]
enum Kind {
    Step(Architecture),
    /// Channels in and out, kernel, stride.
    Conv(usize, usize, usize, usize),
}

impl Case {
    /// The request that the peer is sent.
    pub(crate) fn request(&self) -> String {
        match self.kind {
            Kind::Step(architecture) => {
                format!("step {architecture} {} {}", self.images, self.size)
            }
            Kind::Conv(input, output, kernel, stride) => {
                format!("conv {} {} {input} {output} {kernel} {stride}", self.images, self.size)
            }
        }
    }
}

const fn step(
    name: &'static str,
    architecture: Architecture,
    images: usize,
    size: usize,
    gflops: f64,
) -> Case {
    Case { name, images, size, kind: Kind::Step(architecture), flops: gflops * 1e9 }
}

const fn conv(
    name: &'static str,
    size: usize,
    channels: (usize, usize),
    kernel: usize,
    stride: usize,
) -> Case {
    let out = size.div_ceil(stride);
    let taps = channels.0 * kernel * kernel * channels.1;
    // Forward, and backward for the input and the weight; the stem needs no gradient of its input.
    let passes = if channels.0 == 3 { 2 } else { 3 };
    let flops = (2 * passes * CONV_IMAGES * out * out * taps) as f64;
    Case {
        name,
        images: CONV_IMAGES,
        size,
        kind: Kind::Conv(channels.0, channels.1, kernel, stride),
        flops,
    }
}

const CONV_IMAGES: usize = 16;

/// Every case: steps, then the distinct convolutions of ResNet-50 at 224 pixels.
pub(crate) const CASES: &[Case] = &[
    // 4.09 GMAC forward an image at 224 pixels; a step is three times that.
    step("resnet50-step", Architecture::RESNET50, 16, 224, 16.0 * 3.0 * 2.0 * 4.089),
    // 1.81 GMAC at 224 pixels, scaled to 96.
    step(
        "resnet18-step",
        Architecture::RESNET18,
        64,
        96,
        64.0 * 3.0 * 2.0 * 1.814 * 96.0 * 96.0 / (224.0 * 224.0),
    ),
    // 85.7 M weights in blocks and patches for each of 196 tokens, and 12 * 2 * 196 * 196 * 768 in
    // attention: 17.1 GMAC forward.
    step("vit-b-step", Architecture::SAM_VIT_B, 4, 224, 4.0 * 3.0 * 2.0 * 17.1),
    conv("conv/3-64-k7-s2-224", 224, (3, 64), 7, 2),
    conv("conv/64-64-k1-s1-56", 56, (64, 64), 1, 1),
    conv("conv/64-64-k3-s1-56", 56, (64, 64), 3, 1),
    conv("conv/64-256-k1-s1-56", 56, (64, 256), 1, 1),
    conv("conv/256-64-k1-s1-56", 56, (256, 64), 1, 1),
    conv("conv/256-128-k1-s1-56", 56, (256, 128), 1, 1),
    conv("conv/128-128-k3-s2-56", 56, (128, 128), 3, 2),
    conv("conv/256-512-k1-s2-56", 56, (256, 512), 1, 2),
    conv("conv/128-512-k1-s1-28", 28, (128, 512), 1, 1),
    conv("conv/512-128-k1-s1-28", 28, (512, 128), 1, 1),
    conv("conv/128-128-k3-s1-28", 28, (128, 128), 3, 1),
    conv("conv/512-256-k1-s1-28", 28, (512, 256), 1, 1),
    conv("conv/256-256-k3-s2-28", 28, (256, 256), 3, 2),
    conv("conv/512-1024-k1-s2-28", 28, (512, 1024), 1, 2),
    conv("conv/256-1024-k1-s1-14", 14, (256, 1024), 1, 1),
    conv("conv/1024-256-k1-s1-14", 14, (1024, 256), 1, 1),
    conv("conv/256-256-k3-s1-14", 14, (256, 256), 3, 1),
    conv("conv/1024-512-k1-s1-14", 14, (1024, 512), 1, 1),
    conv("conv/512-512-k3-s2-14", 14, (512, 512), 3, 2),
    conv("conv/1024-2048-k1-s2-14", 14, (1024, 2048), 1, 2),
    conv("conv/512-2048-k1-s1-7", 7, (512, 2048), 1, 1),
    conv("conv/2048-512-k1-s1-7", 7, (2048, 512), 1, 1),
    conv("conv/512-512-k3-s1-7", 7, (512, 512), 3, 1),
];

/// A case made ready.
pub(crate) enum Work {
    Step {
        params: Params,
        network: Box<Encoder>,
        optimiser: Optimiser,
        input: Tensor,
        labels: Vec<u32>,
    },
    Conv(Box<Measured>),
}

impl Work {
    pub(crate) fn new(case: &Case) -> Result<Self, Failure> {
        let mut generator = StdRng::seed_from_u64(1);
        let mut tensor = |shape: (usize, usize, usize, usize)| {
            let count = shape.0 * shape.1 * shape.2 * shape.3;
            let values: Vec<f32> = (0..count).map(|_| generator.random_range(-1.0..1.0)).collect();
            Tensor::from_vec(values, shape, &Device::Cpu)
        };
        Ok(match case.kind {
            Kind::Step(architecture) => {
                let mut start = random(architecture, 1)?;
                let size = architecture.embedding_size();
                start.insert(
                    "fc.weight".to_owned(),
                    Tensor::zeros((3, size), DType::F32, &Device::Cpu)?,
                );
                start.insert("fc.bias".to_owned(), Tensor::zeros(3, DType::F32, &Device::Cpu)?);
                let params = Params::new(&start, DType::F32, &Device::Cpu)?;
                Self::Step {
                    network: Box::new(Encoder::new(architecture, &params)?),
                    params,
                    optimiser: Optimiser::new(Settings::default(), Groups::uniform()),
                    input: tensor((case.images, 3, case.size, case.size))?,
                    labels: (0..case.images as u32).map(|at| at % 3).collect(),
                }
            }
            Kind::Conv(input, output, kernel, stride) => Self::Conv(Box::new(Measured::new(
                (case.images, case.size),
                (input, output),
                (kernel, stride),
            ))),
        })
    }

    pub(crate) fn step(&mut self) -> Result<(), Failure> {
        match self {
            Self::Step { params, network, optimiser, input, labels } => {
                let embedding = network.forward(input, Mode::Train)?.embedding;
                let logits = linear(&embedding, params.get("fc.weight")?, params.get("fc.bias")?)?;
                let loss = cross_entropy(&logits, labels)?;
                optimiser.step(params, &network.backward(&loss, params)?, 1e-4)?;
            }
            Self::Conv(measured) => measured.round(),
        }
        Ok(())
    }
}

const GEMM_SIDE: usize = 2048;
/// Operations of the product that stands for what the machine can do.
pub(crate) const GEMM_FLOPS: f64 = 2.0 * (GEMM_SIDE * GEMM_SIDE * GEMM_SIDE) as f64;

/// The best of three large matrix products on all threads, in seconds.
pub(crate) fn gemm_seconds(threads: usize) -> f64 {
    let (left, right) =
        (vec![1.0_f32; GEMM_SIDE * GEMM_SIDE], vec![1.0_f32; GEMM_SIDE * GEMM_SIDE]);
    let mut out = vec![0.0_f32; GEMM_SIDE * GEMM_SIDE];
    let mut best = f64::INFINITY;
    for _ in 0..3 {
        let started = std::time::Instant::now();
        lvmed::nn::gemm::square(&mut out, &left, &right, GEMM_SIDE, threads);
        best = best.min(started.elapsed().as_secs_f64());
    }
    best
}
