//! Changes of colour: brightness, contrast, saturation and hue as torchvision has them, and grey.
//!
//! All work on one plane (grey) or three (red, green, blue) of brightness in `[0, 1]` and keep it
//! there. Saturation and hue leave a grey picture as it is.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

/// Weights of red, green and blue in the brightness that people see (ITU-R BT.601).
const LUMA: [f32; 3] = [0.299, 0.587, 0.114];

/// One change of the jitter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Change {
    /// `f x`.
    Brightness(f32),
    /// `m + f (x - m)` with the mean `m` of the grey picture.
    Contrast(f32),
    /// `g + f (x - g)` with the grey `g` of each pixel.
    Saturation(f32),
    /// The hue turned by a share of the circle.
    Hue(f32),
}

/// Draws the changes of a jitter in a random order: factors uniform in `1 ± strength`, the hue
/// turned by up to `strength / 4`.
pub(super) fn draw(strength: f64, random: &mut StdRng) -> [Change; 4] {
    let mut around = |most: f64| ((2.0 * random.random::<f64>() - 1.0) * most) as f32;
    let mut changes = [
        Change::Brightness(1.0 + around(strength)),
        Change::Contrast(1.0 + around(strength)),
        Change::Saturation(1.0 + around(strength)),
        Change::Hue(around(strength / 4.0)),
    ];
    changes.shuffle(random);
    changes
}

/// Does a change.
pub(super) fn apply(planes: &mut [Vec<f32>], change: Change) {
    let clamped = |value: f32| value.clamp(0.0, 1.0);
    match change {
        Change::Brightness(factor) => {
            planes.iter_mut().flatten().for_each(|value| *value = clamped(factor * *value));
        }
        Change::Contrast(factor) => {
            let seen = luma(planes);
            let sum: f64 = seen.iter().map(|value| f64::from(*value)).sum();
            let mean = (sum / seen.len().max(1) as f64) as f32;
            let values = planes.iter_mut().flatten();
            values.for_each(|value| *value = clamped(mean + factor * (*value - mean)));
        }
        Change::Saturation(factor) => {
            let seen = luma(planes);
            if planes.len() == 3 {
                for plane in planes {
                    let pairs = plane.iter_mut().zip(&seen);
                    pairs.for_each(|(x, grey)| *x = clamped(grey + factor * (*x - grey)));
                }
            }
        }
        Change::Hue(turn) => {
            if let [red, green, blue] = planes {
                for ((red, green), blue) in red.iter_mut().zip(green).zip(blue) {
                    [*red, *green, *blue] = turned([*red, *green, *blue], turn);
                }
            }
        }
    }
}

/// The picture without its colours: one plane.
pub(super) fn grey(planes: Vec<Vec<f32>>) -> Vec<Vec<f32>> {
    if planes.len() == 3 { vec![luma(&planes)] } else { planes }
}

fn luma(planes: &[Vec<f32>]) -> Vec<f32> {
    match planes {
        [red, green, blue] => {
            let pixels = red.iter().zip(green).zip(blue);
            pixels.map(|((r, g), b)| LUMA[0] * r + LUMA[1] * g + LUMA[2] * b).collect()
        }
        [plane, ..] => plane.clone(),
        [] => Vec::new(),
    }
}

/// A colour with its hue turned, its saturation and value (of HSV) kept.
fn turned(rgb: [f32; 3], turn: f32) -> [f32; 3] {
    let [r, g, b] = rgb;
    let (most, least) = (r.max(g).max(b), r.min(g).min(b));
    let chroma = most - least;
    if chroma <= 0.0 {
        return rgb;
    }
    let sextant = if most == r {
        (g - b) / chroma
    } else if most == g {
        2.0 + (b - r) / chroma
    } else {
        4.0 + (r - g) / chroma
    };
    let hue = (sextant + 6.0 * turn).rem_euclid(6.0);
    // Smith 1978: f(n) = V - C max(0, min(k, 4 - k, 1)) with k = (n + H) mod 6.
    let channel = |n: f32| {
        let k = (n + hue).rem_euclid(6.0);
        most - chroma * k.min(4.0 - k).clamp(0.0, 1.0)
    };
    [channel(5.0), channel(3.0), channel(1.0)]
}

#[cfg(test)]
mod tests {
    use super::{Change, apply, draw, grey, turned};
    use crate::training::data::generator;

    fn near(found: [f32; 3], expected: [f32; 3]) {
        let off = found.iter().zip(expected).map(|(one, other)| (one - other).abs());
        assert!(off.fold(0.0, f32::max) < 1e-5, "{found:?}, not {expected:?}");
    }

    /// Python's `colorsys` gives these.
    #[test]
    fn hues_turn_round_the_circle() {
        near(turned([1.0, 0.0, 0.0], 1.0 / 3.0), [0.0, 1.0, 0.0]);
        near(turned([1.0, 0.0, 0.0], -1.0 / 6.0), [1.0, 0.0, 1.0]);
        near(turned([0.2, 0.6, 0.4], 0.1), [0.2, 0.56, 0.6]);
        near(turned([0.3, 0.3, 0.3], 0.2), [0.3; 3]);
        near(turned([0.9, 0.1, 0.5], 1.0), [0.9, 0.1, 0.5]);
    }

    #[test]
    fn changes_follow_their_formulas() {
        let before = vec![vec![0.2, 1.0], vec![0.6, 0.0], vec![0.4, 0.5]];
        let changed = |change| {
            let mut planes = before.clone();
            apply(&mut planes, change);
            [planes[0][0], planes[1][0], planes[2][0]]
        };
        let seen = 0.299 * 0.2 + 0.587 * 0.6 + 0.114 * 0.4;
        let mean = (seen + 0.299 + 0.114 * 0.5) / 2.0;

        near(changed(Change::Brightness(0.5)), [0.1, 0.3, 0.2]);
        near(changed(Change::Brightness(9.0)), [1.0; 3]);
        near(changed(Change::Saturation(0.0)), [seen; 3]);
        near(changed(Change::Contrast(0.0)), [mean; 3]);
        near(changed(Change::Contrast(1.0)), [0.2, 0.6, 0.4]);
        assert_eq!(grey(before.clone()).len(), 1);
    }

    #[test]
    fn a_grey_picture_has_neither_saturation_nor_hue() {
        let before = vec![vec![0.2, 0.9]];
        for change in [Change::Saturation(0.1), Change::Hue(0.3)] {
            let mut planes = before.clone();
            apply(&mut planes, change);
            assert_eq!(planes, before);
        }
        assert_eq!(grey(before.clone()), before);
    }

    #[test]
    fn no_strength_is_no_change_and_the_order_is_drawn() {
        let drawn = |place| draw(0.0, &mut generator("jitter", 1, 0, place));
        assert!(drawn(0).contains(&Change::Hue(0.0)) && drawn(0).contains(&Change::Contrast(1.0)));
        assert!((1..9).any(|place| drawn(place) != drawn(0)));
    }
}
