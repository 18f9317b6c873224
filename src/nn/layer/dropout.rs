//! Dropout and stochastic depth, their masks drawn from a given generator.

use candle_core::{Device, Result, Tensor, bail};
use rand::Rng;
use rand::rngs::StdRng;

/// Sets each value to 0 with probability `rate` and divides the others by `1 − rate` (Srivastava et
/// al. 2014, inverted). In training only; what is evaluated is left alone by its caller.
pub fn dropout(x: &Tensor, rate: f64, random: &mut StdRng) -> Result<Tensor> {
    drop_by_shape(x, x.dims(), rate, random)
}

/// Sets the branch `x` `[N, …]` of a residual block to 0 for each image with probability `rate` and
/// divides it by `1 − rate` for the others (Huang et al. 2016, stochastic depth).
pub fn stochastic_depth(x: &Tensor, rate: f64, random: &mut StdRng) -> Result<Tensor> {
    let shape: Vec<usize> =
        x.dims().iter().enumerate().map(|(at, size)| if at == 0 { *size } else { 1 }).collect();
    drop_by_shape(x, &shape, rate, random)
}

/// The mask is drawn on the CPU in the order of its values: the same on every device.
fn drop_by_shape(x: &Tensor, shape: &[usize], rate: f64, random: &mut StdRng) -> Result<Tensor> {
    if !(0.0..1.0).contains(&rate) {
        bail!("a share of {rate} cannot be dropped; it must be at least 0 and below 1");
    }
    if rate == 0.0 {
        return Ok(x.clone());
    }
    let kept = (1.0 / (1.0 - rate)) as f32;
    let count = shape.iter().product();
    let mask: Vec<f32> =
        (0..count).map(|_| if random.random::<f64>() < rate { 0.0 } else { kept }).collect();
    let mask = Tensor::from_vec(mask, shape, &Device::Cpu)?;
    x.broadcast_mul(&mask.to_dtype(x.dtype())?.to_device(x.device())?)
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor, Var};
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::{dropout, stochastic_depth};

    fn values(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().and_then(|flat| flat.to_vec1()).expect("values")
    }

    #[test]
    fn the_asked_share_is_dropped_and_the_gradient_meets_the_same_mask() {
        let x = Var::ones((100, 100), DType::F32, &Device::Cpu).expect("a tensor");

        let y = dropout(&x, 0.25, &mut StdRng::seed_from_u64(1)).expect("dropped");
        let again = dropout(&x, 0.25, &mut StdRng::seed_from_u64(1)).expect("dropped");
        let grads = y.sum_all().and_then(|sum| sum.backward()).expect("gradients");

        let found = values(&y);
        let dropped = found.iter().filter(|value| **value == 0.0).count();
        // Four standard deviations of a binomial of 10 000 and 0.25.
        assert!(dropped.abs_diff(2500) < 174, "{dropped}");
        assert!(found.iter().all(|value| *value == 0.0 || (value - 4.0 / 3.0).abs() < 1e-6));
        assert_eq!(found, values(&again));
        assert_eq!(found, values(grads.get(&x).expect("a gradient")));
    }

    #[test]
    fn stochastic_depth_drops_whole_images() {
        let x = Tensor::ones((64, 3, 2), DType::F32, &Device::Cpu).expect("a tensor");

        let y = stochastic_depth(&x, 0.5, &mut StdRng::seed_from_u64(2)).expect("dropped");

        let found = values(&y);
        let images: Vec<f32> = found.chunks(6).map(|image| image[0]).collect();
        assert!(found.chunks(6).all(|image| image.iter().all(|value| *value == image[0])));
        assert!(images.contains(&0.0) && images.contains(&2.0), "{images:?}");
    }

    #[test]
    fn nothing_is_dropped_at_rate_zero_and_everything_is_refused() {
        let x = Tensor::ones(5, DType::F32, &Device::Cpu).expect("a tensor");
        let mut random = StdRng::seed_from_u64(3);

        assert_eq!(values(&dropout(&x, 0.0, &mut random).expect("kept")), [1.0; 5]);
        let refused = dropout(&x, 1.0, &mut random).expect_err("refused").to_string();
        assert!(refused.contains("a share of 1 cannot be dropped"), "{refused}");
    }
}
