//! Message passing between the nodes of a graph by graph convolutions (LVM-Med, Eq. 1).

use candle_core::{Result, Tensor};

use super::Graphs;
use crate::matching::setting::{Convolution, DegreeNorm};
use crate::nn::ops::relu;

/// Weights of a layer of message passing, each `[F, F']`.
#[derive(Debug, Clone)]
pub struct Layer {
    /// Of what a node hears.
    pub heard: Tensor,
    /// Of its own features, where they have weights of their own.
    pub own: Option<Tensor>,
}

/// The share with which each node hears of every other, `[G, N, N]`, in the type and on the device of
/// `like`.
///
/// `A_ij = 1` for the edge (i, j): row i gathers, so that a node hears of the neighbours it has an
/// edge to. A graph without directions has both (i, j) and (j, i).
///
/// [`Convolution::Gcn`]: `D̃^{-1/2} (A + I) D̃^{-1/2}`. With [`DegreeNorm::Kipf`]
/// `D̃_ii = Σ_j (A + I)_ij`, with [`DegreeNorm::Paper`] `D̃_ii = Σ_j A_ij`, where a node without edges
/// counts as having one, so that it keeps its own features. [`Convolution::GraphConv`]: `A`.
pub fn propagation(
    graphs: &Graphs,
    convolution: Convolution,
    norm: DegreeNorm,
    like: &Tensor,
) -> Result<Tensor> {
    let nodes = graphs.nodes();
    let mut values = Vec::with_capacity(graphs.count() * nodes * nodes);
    for edges in graphs.edges() {
        let mut linked = vec![0.0_f64; nodes * nodes];
        for (i, j) in edges {
            linked[*i as usize * nodes + *j as usize] = 1.0;
        }
        if convolution == Convolution::Gcn {
            normalise(&mut linked, nodes, norm);
        }
        values.extend(linked);
    }
    let shape = (graphs.count(), nodes, nodes);
    Tensor::from_vec(values, shape, like.device())?.to_dtype(like.dtype())
}

/// Adds the nodes themselves and divides by the roots of their degrees.
fn normalise(linked: &mut [f64], nodes: usize, norm: DegreeNorm) {
    let own = match norm {
        DegreeNorm::Kipf => 1.0,
        DegreeNorm::Paper => 0.0,
    };
    let root = |row: &[f64]| (row.iter().sum::<f64>() + own).max(1.0).sqrt();
    let roots: Vec<f64> = linked.chunks_exact(nodes.max(1)).map(root).collect();
    for node in 0..nodes {
        linked[node * nodes + node] = 1.0;
    }
    for (at, value) in linked.iter_mut().enumerate() {
        *value /= roots[at / nodes] * roots[at % nodes];
    }
}

/// `H_l = σ(Â H_{l−1} W_{l−1})`, with `H_{l−1} W'_{l−1}` added where a node's own features have weights
/// of their own: features `[G, N, F]` of nodes that have heard of their neighbours. Without layers
/// they are as they were.
///
/// σ is `max(x, 0)` between layers and nothing after the last one: features that cannot be negative
/// would have cosines between 0 and 1 only.
pub fn pass(features: &Tensor, propagation: &Tensor, layers: &[Layer]) -> Result<Tensor> {
    let mut nodes = features.clone();
    for (number, layer) in layers.iter().enumerate() {
        if number > 0 {
            nodes = relu(&nodes)?;
        }
        let (graphs, count, channels) = nodes.dims3()?;
        let weigh = |of: Tensor, weight: &Tensor| -> Result<Tensor> {
            of.reshape((graphs * count, channels))?.matmul(weight)?.reshape((graphs, count, ()))
        };
        let heard = weigh(propagation.matmul(&nodes)?, &layer.heard)?;
        nodes = match &layer.own {
            Some(own) => (heard + weigh(nodes, own)?)?,
            None => heard,
        };
    }
    Ok(nodes)
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::{Layer, pass, propagation};
    use crate::matching::Graphs;
    use crate::matching::setting::{Convolution, DegreeNorm};

    fn weight(value: f64) -> Tensor {
        Tensor::new(&[[value]], &Device::Cpu).expect("a weight")
    }

    fn convolved(
        edges: &[(u32, u32)],
        (convolution, norm): (Convolution, DegreeNorm),
        layer: Layer,
    ) -> Vec<f64> {
        let features = Tensor::new(&[[[1.0_f64], [2.0], [3.0]]], &Device::Cpu).expect("features");
        let graphs = Graphs::new(3, vec![edges.to_vec()]).expect("a graph");
        let links = propagation(&graphs, convolution, norm, &features).expect("links");
        let out = pass(&features, &links, &[layer]).expect("passed");
        out.flatten_all().and_then(|out| out.to_vec1()).expect("values")
    }

    fn passed(edges: &[(u32, u32)], norm: DegreeNorm) -> Vec<f64> {
        let layer = Layer { heard: weight(1.0), own: None };
        convolved(edges, (Convolution::Gcn, norm), layer)
    }

    fn assert_close(found: &[f64], expected: &[f64]) {
        for (one, other) in found.iter().zip(expected) {
            assert!((one - other).abs() < 5e-7, "{found:?}, expected {expected:?}");
        }
    }

    #[test]
    fn a_path_of_three_nodes_has_the_values_of_the_worked_example() {
        // Without directions: an edge each way.
        let path = [(0, 1), (1, 0), (1, 2), (2, 1)];

        let kipf = passed(&path, DegreeNorm::Kipf);
        let paper = passed(&path, DegreeNorm::Paper);

        assert_close(&kipf, &[1.316_497, 2.299_660, 2.316_497]);
        assert_close(&paper, &[2.414_214, 3.828_427, 4.414_214]);
    }

    #[test]
    fn a_node_hears_of_those_it_has_an_edge_to() {
        // 0 -> 1 -> 2; node 2 has no edge.
        let chain = [(0, 1), (1, 2)];

        let kipf = passed(&chain, DegreeNorm::Kipf);
        let paper = passed(&chain, DegreeNorm::Paper);

        let root = 2.0_f64.sqrt();
        assert_close(&kipf, &[0.5 + 1.0, 1.0 + 3.0 / root, 3.0]);
        assert_close(&paper, &[3.0, 5.0, 3.0]);
    }

    #[test]
    fn own_features_can_have_weights_of_their_own() {
        let path = [(0, 1), (1, 0), (1, 2)];
        let layer = Layer { heard: weight(2.0), own: Some(weight(10.0)) };

        let sums = convolved(&path, (Convolution::GraphConv, DegreeNorm::Kipf), layer);

        assert_close(&sums, &[10.0 + 2.0 * 2.0, 20.0 + 2.0 * (1.0 + 3.0), 30.0]);
    }

    #[test]
    fn no_layers_change_nothing() {
        let features = Tensor::new(&[[[1.0_f64], [2.0]]], &Device::Cpu).expect("features");
        let graphs = Graphs::new(2, vec![vec![(0, 1)]]).expect("a graph");
        let (gcn, kipf) = (Convolution::default(), DegreeNorm::default());
        let links = propagation(&graphs, gcn, kipf, &features).expect("links");

        let out = pass(&features, &links, &[]).expect("passed");

        assert_eq!(out.to_vec3::<f64>().expect("values"), [[[1.0], [2.0]]]);
    }
}
