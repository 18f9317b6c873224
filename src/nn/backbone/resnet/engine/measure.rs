//! One convolution of the engine, forward and backward, for benchmarks.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::buffers::Buffers;
use super::conv::{Convolution, Receiver, Wanted};
use super::rows::{Outgoing, Source};

/// A convolution padded by half its kernel, with its input, weight and gradients.
#[derive(Debug)]
pub struct Measured {
    conv: Convolution,
    input: Vec<f32>,
    weight: Vec<f32>,
    output: Vec<f32>,
    gradient: Vec<f32>,
    d_weight: Vec<f32>,
    /// Absent where the input needs no gradient.
    d_input: Option<Vec<f32>>,
    buffers: Buffers<f32>,
}

impl Measured {
    /// A convolution of `images` squares of side `side`; pictures (three channels) get no gradient.
    pub fn new(
        (images, side): (usize, usize),
        (inputs, outputs): (usize, usize),
        (kernel, stride): (usize, usize),
    ) -> Self {
        let padding = kernel / 2;
        let (height, width) = (side, side);
        let conv = Convolution { images, height, width, inputs, outputs, kernel, stride, padding };
        let mut random = StdRng::seed_from_u64(1);
        let mut draw = |count: usize| -> Vec<f32> {
            (0..count).map(|_| random.random_range(-1.0..1.0)).collect()
        };
        let (values, results) = (conv.in_rows() * inputs, conv.out_rows() * outputs);
        Self {
            conv,
            input: draw(values),
            weight: draw(conv.weights()),
            output: vec![0.0; results],
            gradient: vec![1.0; results],
            d_weight: vec![0.0; conv.weights()],
            d_input: (inputs != 3).then(|| vec![0.0; values]),
            buffers: Buffers::default(),
        }
    }

    /// Once forward and backward.
    pub fn round(&mut self) {
        let source = Source { values: &self.input, through: None };
        self.conv.forward(source, &self.weight, &mut self.output, &self.buffers, false);
        let channels = self.conv.outputs;
        let outgoing = Outgoing { g: &self.gradient, z: &self.output, channels, line: None };
        let input = self.d_input.as_mut().map(|into| Receiver { into, rectified: None });
        let wanted = Wanted { weight: Some(&mut self.d_weight), input };
        self.conv.backward(source, &self.weight, outgoing, wanted, &self.buffers);
    }
}
