//! The affinities of nodes and edges of two graphs: how well they go together (LVM-Med, section 3.2).

mod cells;
mod local;
mod picks;

use candle_core::{D, Result, Tensor};

use super::Graphs;
use crate::matching::setting::Local;

pub use local::local;
pub use picks::Place;

/// Length below which a vector counts as zero: it has no direction, and every cosine with it is 0.
pub const SHORTEST: f64 = 1e-6;

/// Rows of `x` `[.., F]` at length 1. A row shorter than [`SHORTEST`] becomes zero and gets no
/// gradient, where a quotient would give values that are not numbers.
pub fn unit(x: &Tensor) -> Result<Tensor> {
    let squares = x.sqr()?.sum_keepdim(D::Minus1)?;
    let has_length = squares.ge(SHORTEST * SHORTEST)?.to_dtype(x.dtype())?;
    // Those without a length are divided by 1.
    let lengths = ((squares * &has_length)? + has_length.affine(-1.0, 1.0)?)?.sqrt()?;
    x.broadcast_mul(&has_length.broadcast_div(&lengths)?)
}

/// Cosines of every row of `source` `[G, N, F]` with every row of `target` `[G, M, F]`: `[G, N, M]`.
pub fn cosines(source: &Tensor, target: &Tensor) -> Result<Tensor> {
    unit(source)?.matmul(&unit(target)?.transpose(1, 2)?.contiguous()?)
}

/// The span of every edge (i, j), `ẑ_i − ẑ_j`, of nodes `[G, N, F]`: `[G, E, F]`.
pub fn differences(nodes: &Tensor, graphs: &Graphs) -> Result<Tensor> {
    let count = graphs.nodes();
    let mut ends = vec![0.0_f64; graphs.count() * graphs.edges_each() * count];
    for ((i, j), row) in graphs.edges().iter().flatten().zip(ends.chunks_exact_mut(count.max(1))) {
        row[*i as usize] = 1.0;
        row[*j as usize] = -1.0;
    }
    let shape = (graphs.count(), graphs.edges_each(), count);
    Tensor::from_vec(ends, shape, nodes.device())?.to_dtype(nodes.dtype())?.matmul(nodes)
}

/// Affinities of nodes both ways, `[G, N, N]` each with rows for the nodes that are matched: from
/// the source to the target, and from the target to the source.
///
/// With [`Local::Eq3`] `c^v = α c^glo + (1 − α) [c^lo(s, t) + c^lo(t, s)]`, the same for both ways;
/// with [`Local::Pseudo`] `c^v = α c^glo + (1 − α) ½ c^lo` with the local affinities of its way.
/// `together` is `c^glo` `[G, N, N]`, `apart` are the local ones as [`local()`] gives them; without
/// them `c^v = c^glo`.
pub fn mix(
    together: &Tensor,
    apart: Option<&Tensor>,
    alpha: f64,
    reading: Local,
) -> Result<[Tensor; 2]> {
    let turned = |affinities: &Tensor| affinities.transpose(1, 2)?.contiguous();
    let Some(apart) = apart else { return Ok([together.clone(), turned(together)?]) };
    let global = (together * alpha)?;
    let one_way = |way: usize| apart.get(way);
    match reading {
        Local::None | Local::Eq3 => {
            let both = (global + ((one_way(0)? + one_way(1)?)? * (1.0 - alpha))?)?;
            Ok([both.clone(), turned(&both)?])
        }
        Local::Pseudo => {
            let half = 0.5 * (1.0 - alpha);
            let there = (&global + (one_way(0)? * half)?)?;
            let back = (&global + (one_way(1)? * half)?)?;
            Ok([there, turned(&back)?])
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::{cosines, differences, local, mix};
    use crate::matching::Graphs;
    use crate::matching::setting::Local;

    fn tensor(values: &[f64], shape: &[usize]) -> Tensor {
        Tensor::from_slice(values, shape, &Device::Cpu).expect("a tensor")
    }

    fn flat(x: &Tensor) -> Vec<f64> {
        x.flatten_all().and_then(|x| x.to_vec1()).expect("values")
    }

    fn assert_close(found: &[f64], expected: &[f64], tolerance: f64) {
        assert_eq!(found.len(), expected.len());
        for (one, other) in found.iter().zip(expected) {
            assert!((one - other).abs() < tolerance, "{found:?}, expected {expected:?}");
        }
    }

    /// Local affinities of two images of two cells each.
    fn two_cells(closest: Option<usize>) -> Tensor {
        // Maps are channel by channel: y^s = [(1, 0), (.6, .8)], y^t = [(0, 1), (.8, .6)].
        let source = tensor(&[1.0, 0.6, 0.0, 0.8], &[1, 2, 1, 2]);
        let target = tensor(&[0.0, 0.8, 1.0, 0.6], &[1, 2, 1, 2]);
        let places =
            [vec![vec![[15.0, 30.0], [25.0, 30.0]]], vec![vec![[16.0, 31.0], [40.0, 30.0]]]];
        local((&source, &target), places, 1, closest).expect("affinities")
    }

    #[test]
    fn local_affinities_are_those_of_the_worked_example() {
        assert_close(&flat(&two_cells(None)), &[1.28, 1.36], 1e-12);
        // By location cell 0 remains (cos 0), by features cell 1 (cos .96).
        assert_close(&flat(&two_cells(Some(1)))[..1], &[0.96], 1e-12);
        assert_close(&flat(&two_cells(Some(9))), &[1.28, 1.36], 1e-12);
    }

    #[test]
    fn both_readings_of_the_node_affinity_are_those_of_the_worked_example() {
        let global = tensor(&[0.5], &[1, 1, 1]);
        let mixed = |closest: Option<usize>, reading| {
            let [there, back] =
                mix(&global, Some(&two_cells(closest)), 0.8, reading).expect("mixed");
            [flat(&there)[0], flat(&back)[0]]
        };

        assert_close(&mixed(None, Local::Eq3), &[0.928, 0.928], 1e-12);
        let all = mixed(None, Local::Pseudo);
        assert_close(&all, &[0.528, 0.4 + 0.1 * 1.36], 1e-12);
        let nearest = mixed(Some(1), Local::Pseudo);
        assert_close(&nearest[..1], &[0.496], 1e-12);
    }

    #[test]
    fn affinities_of_nodes_and_edges_are_those_of_the_worked_example() {
        let source = tensor(&[1.0, 0.0, 0.6, 0.8, 0.0, 1.0, -0.8, 0.6], &[1, 4, 2]);
        let target = tensor(&[0.96, 0.28, 0.8, 0.6, -0.28, 0.96, -0.6, 0.8], &[1, 4, 2]);
        let graphs = [&source, &target].map(|nodes| Graphs::nearest(nodes, 1).expect("graphs"));

        let nodes = cosines(&source, &target).expect("cosines");
        let spans = [(&source, &graphs[0]), (&target, &graphs[1])]
            .map(|(nodes, graphs)| differences(nodes, graphs).expect("spans"));
        let edges = cosines(&spans[0], &spans[1]).expect("cosines");

        let expected = [
            [0.96, 0.8, -0.28, -0.6],
            [0.8, 0.96, 0.6, 0.28],
            [0.28, 0.6, 0.96, 0.8],
            [-0.6, -0.28, 0.8, 0.96],
        ];
        assert_close(&flat(&nodes), expected.as_flattened(), 1e-12);
        let half = std::f64::consts::FRAC_1_SQRT_2;
        let expected = [
            [1.0, -1.0, 0.0, 0.0],
            [half, -half, half, -half],
            [-half, half, -half, half],
            [0.0, 0.0, -1.0, 1.0],
        ];
        assert_close(&flat(&edges), expected.as_flattened(), 1e-12);
    }

    #[test]
    fn without_local_affinities_the_global_ones_stand_alone() {
        let global = tensor(&[0.1, 0.2, 0.3, 0.4], &[1, 2, 2]);

        let [there, back] = mix(&global, None, 0.8, Local::None).expect("mixed");

        assert_eq!(flat(&there), [0.1, 0.2, 0.3, 0.4]);
        assert_eq!(flat(&back), [0.1, 0.3, 0.2, 0.4]);
    }
}
