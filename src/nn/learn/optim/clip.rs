//! Clipping of gradients by their global norm.

use candle_core::Result;

use crate::nn::tape::gradients::Gradients;

/// Scales all gradients by `max / (norm + 1e-6)` where that is below 1, as PyTorch does (Pascanu et
/// al. 2013, algorithm 1), and gives the norm from before. A norm that is not finite is given back
/// and nothing is scaled: [`Gradients::first_not_finite`] tells where it comes from.
pub fn clip_norm(gradients: &mut Gradients, max: f64) -> Result<f64> {
    let norm = gradients.norm()?;
    let factor = max / (norm + 1e-6);
    if norm.is_finite() && factor < 1.0 {
        gradients.scale(factor)?;
    }
    Ok(norm)
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::clip_norm;
    use crate::nn::tape::gradients::Gradients;

    fn gradients(values: [&[f32]; 2]) -> Gradients {
        let mut gradients = Gradients::default();
        for (name, values) in ["a", "b"].into_iter().zip(values) {
            gradients.insert(name.to_owned(), Tensor::new(values, &Device::Cpu).expect("a tensor"));
        }
        gradients
    }

    #[test]
    fn long_gradients_are_shortened_and_short_ones_left_alone() {
        let mut long = gradients([&[3.0, 0.0], &[4.0]]);
        let mut short = gradients([&[0.3, 0.0], &[0.4]]);

        assert_eq!(clip_norm(&mut long, 1.0).expect("clipped"), 5.0);
        assert!((clip_norm(&mut short, 1.0).expect("clipped") - 0.5).abs() < 1e-7);

        assert!((long.norm().expect("a norm") - 1.0).abs() < 1e-6);
        assert!((short.norm().expect("a norm") - 0.5).abs() < 1e-7);
    }

    #[test]
    fn what_is_not_finite_is_named_and_nothing_is_scaled() {
        let mut broken = gradients([&[1.0, 2.0], &[f32::NAN]]);

        assert!(clip_norm(&mut broken, 1.0).expect("a norm").is_nan());

        assert_eq!(broken.first_not_finite().expect("looked at"), Some("b"));
        let first = broken.get("a").expect("a").to_vec1::<f32>().expect("values");
        assert_eq!(first, [1.0, 2.0]);
    }
}
