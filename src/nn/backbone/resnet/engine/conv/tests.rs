//! Every way of convolving against the sum over its window, forward and backward.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{Convolution, Receiver, Wanted, Way};
use crate::nn::backbone::resnet::engine::buffers::Buffers;
use crate::nn::backbone::resnet::engine::rows::{Affine, Line, Outgoing, Source};
use crate::nn::backbone::resnet::engine::sums::{Moments, Rectified, Sums};

/// Largest difference of 64-bit results of unit size.
const TOLERANCE: f64 = 1e-10;

fn draw(count: usize, seed: u64) -> Vec<f64> {
    let mut random = StdRng::seed_from_u64(seed);
    (0..count).map(|_| random.random_range(-1.0..1.0)).collect()
}

fn assert_close(found: &[f64], expected: &[f64], what: &str) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        let bound = TOLERANCE * expected.abs().max(1.0);
        assert!((found - expected).abs() <= bound, "{what}: {found} and {expected}");
    }
}

/// The results of the sum over the window: the output, and the gradients of weight and input.
struct Plain {
    out: Vec<f64>,
    d_weight: Vec<f64>,
    d_x: Vec<f64>,
}

fn plain(conv: &Convolution, x: &[f64], weight: &[f64], dz: impl Fn(usize, f64) -> f64) -> Plain {
    let Convolution { inputs, outputs, kernel, .. } = *conv;
    let mut plain = Plain {
        out: vec![0.0; conv.out_rows() * outputs],
        d_weight: vec![0.0; weight.len()],
        d_x: vec![0.0; x.len()],
    };
    for row in 0..conv.out_rows() {
        let (line, column) = (row / conv.out_width(), row % conv.out_width());
        let (image, line) = (line / conv.out_height(), line % conv.out_height());
        let taps: Vec<(usize, usize)> = (0..kernel * kernel)
            .filter_map(|tap| {
                let inside =
                    |at: usize, end: usize| at.checked_sub(conv.padding).filter(|at| *at < end);
                let y = inside(line * conv.stride + tap / kernel, conv.height)?;
                let x = inside(column * conv.stride + tap % kernel, conv.width)?;
                Some((tap, (image * conv.height + y) * conv.width + x))
            })
            .collect();
        for output in 0..outputs {
            let at = |tap: usize, input: usize| (output * inputs + input) * kernel * kernel + tap;
            let mut sum = 0.0;
            for (tap, from) in &taps {
                for input in 0..inputs {
                    sum += x[from * inputs + input] * weight[at(*tap, input)];
                }
            }
            plain.out[row * outputs + output] = sum;
            let gradient = dz(row * outputs + output, sum);
            for (tap, from) in &taps {
                for input in 0..inputs {
                    plain.d_weight[at(*tap, input)] += gradient * x[from * inputs + input];
                    plain.d_x[from * inputs + input] += gradient * weight[at(*tap, input)];
                }
            }
        }
    }
    plain
}

fn check(conv: Convolution) {
    check_by(conv, conv.way());
}

/// Checks one way, whichever would be taken.
fn check_by(conv: Convolution, way: Way) {
    let Convolution { inputs, outputs, .. } = conv;
    let z = draw(conv.in_rows() * inputs, 1);
    let weight = draw(conv.weights(), 2);
    let affine = Affine { slope: draw(inputs, 3), offset: draw(inputs, 4) };
    let center = draw(inputs, 5);
    let g = draw(conv.out_rows() * outputs, 6);
    let (a, b, c) = (draw(outputs, 7), draw(outputs, 8), draw(outputs, 9));
    let x: Vec<f64> = (0..z.len())
        .map(|at| (z[at] * affine.slope[at % inputs] + affine.offset[at % inputs]).max(0.0))
        .collect();
    let dz =
        |at: usize, out: f64| a[at % outputs] * g[at] + b[at % outputs] * out + c[at % outputs];
    let mut expected = plain(&conv, &x, &weight, dz);
    let passing = expected.d_x.iter_mut().zip(&x).filter(|(_, x)| **x <= 0.0);
    passing.for_each(|(d_x, _)| *d_x = 0.0);

    let buffers = Buffers::default();
    let source = Source { values: &z, through: Some(&affine) };
    let mut out = vec![0.0; expected.out.len()];
    let moments = conv.forward_by(way, source, &weight, &mut out, &buffers, true);
    let line = Line { a: a.clone(), rest: Some((b.clone(), c.clone())) };
    let (mut d_weight, mut d_x) = (vec![f64::NAN; weight.len()], vec![f64::NAN; z.len()]);
    let rectified = Rectified { z: &z, affine: &affine, center: &center };
    let wanted = Wanted {
        weight: Some(&mut d_weight),
        input: Some(Receiver { into: &mut d_x, rectified: Some(rectified) }),
    };
    let outgoing = Outgoing { g: &g, z: &out, channels: outputs, line: Some(&line) };
    let sums = Sums::total(&conv.backward_by(way, source, &weight, outgoing, wanted, &buffers));

    assert_close(&out, &expected.out, "output");
    assert_close(&d_weight, &expected.d_weight, "gradient of the weight");
    assert_close(&d_x, &expected.d_x, "gradient of the input");
    let moments = Moments::merge(&moments);
    assert_eq!(moments.rows, conv.out_rows());
    for channel in 0..outputs {
        let own: Vec<f64> = out.iter().skip(channel).step_by(outputs).copied().collect();
        let mean = own.iter().sum::<f64>() / own.len() as f64;
        let squares = own.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
        assert_close(&[moments.mean[channel]], &[mean], "mean");
        assert_close(&[moments.squares[channel]], &[squares], "squares");
    }
    for channel in 0..inputs {
        let own = (channel..d_x.len()).step_by(inputs);
        let total: f64 = own.clone().map(|at| d_x[at]).sum();
        let along: f64 = own.map(|at| d_x[at] * (z[at] - center[channel])).sum();
        assert_close(&[sums.first[channel]], &[total], "sum of the gradient");
        assert_close(&[sums.second[channel]], &[along], "sum along the values");
    }

    // Each gradient alone is the same.
    let mut alone = vec![f64::NAN; weight.len()];
    let wanted = Wanted { weight: Some(&mut alone), input: None };
    conv.backward_by(way, source, &weight, outgoing, wanted, &buffers);
    assert_close(&alone, &d_weight, "gradient of the weight alone");
    let mut alone = vec![f64::NAN; z.len()];
    let input = Some(Receiver { into: &mut alone, rectified: Some(rectified) });
    conv.backward_by(way, source, &weight, outgoing, Wanted { weight: None, input }, &buffers);
    assert_close(&alone, &d_x, "gradient of the input alone");
}

fn sizes(
    (images, height, width): (usize, usize, usize),
    (inputs, outputs): (usize, usize),
    (kernel, stride, padding): (usize, usize, usize),
) -> Convolution {
    Convolution { images, height, width, inputs, outputs, kernel, stride, padding }
}

#[test]
fn pointwise_ones() {
    check(sizes((2, 5, 7), (3, 5), (1, 1, 0)));
    check(sizes((1, 31, 29), (16, 32), (1, 1, 0)));
    // Weights of both sides of the bound on what is summed by groups.
    check(sizes((2, 7, 7), (368, 384), (1, 1, 0)));
}

#[test]
fn strided_ones() {
    check(sizes((2, 6, 6), (4, 6), (1, 2, 0)));
    check(sizes((3, 7, 5), (16, 32), (1, 2, 0)));
}

#[test]
fn winograds() {
    let winograd = |images, channels| check_by(sizes(images, channels, (3, 1, 1)), Way::Winograd);
    winograd((2, 8, 8), (16, 16));
    winograd((3, 7, 5), (16, 32));
    winograd((1, 14, 13), (32, 16));
    winograd((5, 1, 3), (16, 16));
    // More tiles than are handled at a time.
    winograd((5, 24, 24), (16, 16));
}

#[test]
fn the_way_depends_on_what_is_spared() {
    let way = |images, channels| sizes(images, channels, (3, 1, 1)).way();

    assert_eq!(way((16, 56, 56), (64, 64)), Way::Winograd);
    assert_eq!(way((16, 14, 14), (256, 256)), Way::Winograd);
    assert_eq!(way((16, 3, 3), (512, 512)), Way::Unfolded);
    assert_eq!(way((16, 56, 56), (24, 64)), Way::Unfolded);
}

#[test]
fn unfolded_ones() {
    check(sizes((2, 9, 7), (3, 4), (7, 2, 3)));
    check(sizes((3, 8, 8), (4, 6), (3, 2, 1)));
    check(sizes((1, 5, 6), (2, 3), (2, 3, 1)));
    check(sizes((5, 6, 6), (16, 16), (3, 2, 1)));
    check(sizes((2, 5, 5), (5, 3), (3, 1, 1)));
}

/// Root mean square of what 32 bits change, over that of the values.
fn rounding(way: Way) -> f64 {
    let conv = sizes((1, 16, 16), (256, 16), (3, 1, 1));
    let (x, weight) = (draw(conv.in_rows() * conv.inputs, 1), draw(conv.weights(), 2));
    let exact = plain(&conv, &x, &weight, |_, _| 0.0).out;
    let single = |values: &[f64]| values.iter().map(|value| *value as f32).collect::<Vec<f32>>();
    let (x, weight) = (single(&x), single(&weight));
    let mut out = vec![0.0; exact.len()];
    let source = Source { values: &x, through: None };
    conv.forward_by(way, source, &weight, &mut out, &Buffers::default(), false);
    let apart: f64 =
        out.iter().zip(&exact).map(|(found, exact)| (f64::from(*found) - exact).powi(2)).sum();
    (apart / exact.iter().map(|exact| exact.powi(2)).sum::<f64>()).sqrt()
}

#[test]
fn the_points_of_the_transform_keep_the_rounding_near_that_of_plain_sums() {
    let (winograd, plain) = (rounding(Way::Winograd), rounding(Way::Unfolded));

    // The usual points 0, ±1, ±2 and infinity leave 2.1e-6 (scripts/winograd_points.py).
    assert!(winograd < 1.8e-6, "{winograd:.2e}");
    assert!(plain < winograd, "{plain:.2e} and {winograd:.2e}");
}
