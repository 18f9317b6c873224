//! Graphs of images: a batch cut into groups of N nodes, each with edges to its nearest neighbours.

use candle_core::{DType, Result, Tensor, bail};

/// Directed graphs of equally many nodes and edges, one for each whole group of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Graphs {
    nodes: usize,
    edges: Vec<Vec<(u32, u32)>>,
}

/// Cuts features of a batch `[B, F]` into `⌊B / N⌋` groups of `nodes` consecutive images,
/// `[G, N, F]`. Images that remain after the last whole group belong to no graph and learn nothing
/// from this batch; a batch without one whole group is an error.
pub fn cut(features: &Tensor, nodes: usize) -> Result<Tensor> {
    let (images, channels) = features.dims2()?;
    let graphs = images.checked_div(nodes).unwrap_or(0);
    if graphs == 0 {
        bail!("a batch of {images} images makes no graph of {nodes} nodes");
    }
    let whole = graphs * nodes;
    let kept = if whole == images { features.clone() } else { features.narrow(0, 0, whole)? };
    kept.reshape((graphs, nodes, channels))
}

impl Graphs {
    /// Graphs of `nodes` nodes with these directed edges: as many in each graph, none from a node to
    /// itself.
    pub fn new(nodes: usize, edges: Vec<Vec<(u32, u32)>>) -> Result<Self> {
        let count = edges.first().map_or(0, Vec::len);
        for graph in &edges {
            if graph.len() != count {
                bail!("a graph of {} edges beside one of {count}", graph.len());
            }
            let is_wrong = |(i, j): &&(u32, u32)| i == j || (*i.max(j) as usize) >= nodes;
            if let Some((i, j)) = graph.iter().find(is_wrong) {
                bail!("a graph of {nodes} nodes has no edge from {i} to {j}");
            }
        }
        Ok(Self { nodes, edges })
    }

    /// The graphs of `features` `[G, N, F]` in which every node i has an edge (i, j) to each of its
    /// `neighbours` nearest others j, by Euclidean distance. Where two are equally near, the one of
    /// lower index is nearer; edges are ordered by i, then by distance. The choice has no gradient.
    pub fn nearest(features: &Tensor, neighbours: usize) -> Result<Self> {
        let (_, nodes, _) = features.dims3()?;
        let features = features.detach().to_dtype(DType::F64)?.to_vec3::<f64>()?;
        let edges = features.iter().map(|graph| nearest(graph, neighbours)).collect();
        Self::new(nodes, edges)
    }

    /// Nodes of each graph.
    pub fn nodes(&self) -> usize {
        self.nodes
    }

    /// Graphs that there are.
    pub fn count(&self) -> usize {
        self.edges.len()
    }

    /// The directed edges of each graph.
    pub fn edges(&self) -> &[Vec<(u32, u32)>] {
        &self.edges
    }

    /// Edges of each graph.
    pub fn edges_each(&self) -> usize {
        self.edges.first().map_or(0, Vec::len)
    }
}

fn nearest(features: &[Vec<f64>], neighbours: usize) -> Vec<(u32, u32)> {
    let mut edges = Vec::with_capacity(features.len() * neighbours);
    for (i, own) in features.iter().enumerate() {
        let distance = |other: &[f64]| -> f64 {
            own.iter().zip(other).map(|(one, other)| (one - other) * (one - other)).sum()
        };
        let others = features.iter().enumerate().filter(|(j, _)| *j != i);
        let mut others: Vec<(f64, usize)> = others.map(|(j, other)| (distance(other), j)).collect();
        // Stable, hence by index among equals.
        others.sort_by(|one, other| one.0.total_cmp(&other.0));
        edges.extend(others.iter().take(neighbours).map(|(_, j)| (i as u32, *j as u32)));
    }
    edges
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::{Graphs, cut};

    #[test]
    fn neighbours_are_those_of_the_worked_example() {
        let features = Tensor::new(
            &[
                [[1.0_f64, 0.0], [0.6, 0.8], [0.0, 1.0], [-0.8, 0.6]],
                [[0.96, 0.28], [0.8, 0.6], [-0.28, 0.96], [-0.6, 0.8]],
            ],
            &Device::Cpu,
        )
        .expect("features");

        let graphs = Graphs::nearest(&features, 1).expect("graphs");

        assert_eq!(graphs.edges()[0], [(0, 1), (1, 2), (2, 1), (3, 2)]);
        assert_eq!(graphs.edges()[1], [(0, 1), (1, 0), (2, 3), (3, 2)]);
    }

    #[test]
    fn equal_nodes_choose_those_of_lowest_index_and_never_themselves() {
        let features = Tensor::ones((1, 4, 3), candle_core::DType::F32, &Device::Cpu);

        let graphs = Graphs::nearest(&features.expect("features"), 2).expect("graphs");

        let expected = [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1), (3, 0), (3, 1)];
        assert_eq!(graphs.edges(), [expected]);
    }

    #[test]
    fn images_after_the_last_whole_group_make_no_graph() {
        let features = |images: u32| {
            let values = Tensor::arange(0, images * 2, &Device::Cpu).expect("values");
            values.reshape((images as usize, 2)).expect("features")
        };

        let groups = cut(&features(7), 3).expect("groups").to_vec3::<u32>().expect("values");

        assert_eq!(groups[1], [[6, 7], [8, 9], [10, 11]]);
        assert_eq!(groups.len(), 2);
        let error = cut(&features(2), 3).expect_err("too few").to_string();
        assert!(error.contains("2 images makes no graph of 3 nodes"), "{error}");
    }

    #[test]
    fn edges_that_lead_nowhere_are_refused() {
        for wrong in [(1, 1), (0, 3), (3, 0)] {
            assert!(Graphs::new(3, vec![vec![wrong]]).is_err(), "{wrong:?}");
        }
        assert!(Graphs::new(3, vec![vec![(0, 1)], vec![]]).is_err());
    }
}
