//! The Hamming distance of assignments to the identity (LVM-Med, Eq. 5).

use candle_core::{Result, Tensor};

use crate::matching::setting::Hamming;

/// `L = Σ v·(1 − v*) + v*·(1 − v)` with `v*` the identity, of assignments `v` `[Q, N, N]`, summed
/// over all Q of them and divided as `hamming` says; `graphs` are those of the batch. Its derivative
/// is −1 on the diagonal and 1 beside it, divided likewise.
pub fn hamming(v: &Tensor, hamming: Hamming, graphs: usize) -> Result<Tensor> {
    let (count, nodes, _) = v.dims3()?;
    let target = Tensor::eye(nodes, v.dtype(), v.device())?;
    // v (1 − v*) + v* (1 − v) = v (1 − 2 v*) + v*, and Σ v* is N.
    let wrong = v.broadcast_mul(&target.affine(-2.0, 1.0)?)?.sum_all()?;
    let total = (wrong + (count * nodes) as f64)?;
    let divisor = match hamming {
        Hamming::Sum => return Ok(total),
        Hamming::MeanNodes => nodes,
        Hamming::MeanGraphs => graphs,
    };
    total / divisor as f64
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor, Var};
    use proptest::prelude::*;

    use super::hamming;
    use crate::matching::setting::Hamming;

    fn assignment(partners: &[usize]) -> Tensor {
        let nodes = partners.len();
        let at = |place: usize| f64::from(u8::from(partners[place / nodes] == place % nodes));
        let values: Vec<f64> = (0..nodes * nodes).map(at).collect();
        Tensor::from_vec(values, (1, nodes, nodes), &Device::Cpu).expect("an assignment")
    }

    fn loss(v: &Tensor, by: Hamming) -> f64 {
        hamming(v, by, 12).and_then(|loss| loss.to_scalar()).expect("a loss")
    }

    #[test]
    fn mismatched_nodes_count_twice() {
        assert_eq!(loss(&assignment(&[1, 0]), Hamming::Sum), 4.0);
        assert_eq!(loss(&assignment(&[0, 1, 2]), Hamming::Sum), 0.0);
        assert_eq!(loss(&assignment(&[1, 2, 0]), Hamming::MeanNodes), 2.0);
    }

    #[test]
    fn a_node_without_a_partner_counts_once() {
        let alone = Tensor::new(&[[[1.0_f64, 0.0], [0.0, 0.0]]], &Device::Cpu).expect("v");

        assert_eq!(loss(&alone, Hamming::Sum), 1.0);
    }

    #[test]
    fn the_effective_lambda_is_that_of_the_worked_example() {
        for (by, expected) in
            [(Hamming::Sum, 80.0), (Hamming::MeanNodes, 5.0), (Hamming::MeanGraphs, 6.6667)]
        {
            let v = Var::zeros((12, 16, 16), candle_core::DType::F64, &Device::Cpu).expect("v");
            let grads = hamming(&v, by, 12).and_then(|loss| loss.backward()).expect("gradients");
            let gradient = grads.get(&v).expect("a gradient").to_vec3::<f64>().expect("values");

            assert!((80.0 * gradient[3][2][5] - expected).abs() < 5e-5, "{by:?}");
            assert!((80.0 * gradient[3][2][2] + expected).abs() < 5e-5, "{by:?}");
        }
    }

    proptest! {
        #[test]
        fn losses_of_bijections_are_even_and_at_most_twice_the_nodes(
            partners in (1_usize..9).prop_flat_map(|n| Just((0..n).collect::<Vec<_>>()).prop_shuffle())
        ) {
            let wrong = partners.iter().enumerate().filter(|(i, a)| i != *a).count();

            let loss = loss(&assignment(&partners), Hamming::Sum);

            prop_assert_eq!(loss, 2.0 * wrong as f64);
            prop_assert!(loss <= 2.0 * partners.len() as f64);
        }
    }
}
