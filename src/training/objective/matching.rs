//! LVM-Med's second-order graph matching between views (Nguyen et al. 2023, section 3).

use candle_core::{Device, Tensor, bail};

use super::scored::{Moment, Objective, Scored};
use super::views::{MatchedPair, Shown, View};
use crate::domain::pretrain::{Convolution, Local, Matching};
use crate::matching::affinity::{cosines, differences, local, mix};
use crate::matching::black_box::{BlackBox, Links};
use crate::matching::hamming::hamming;
use crate::matching::message::{Layer, pass, propagation};
use crate::matching::noise::{Noise, Place, Scales};
use crate::matching::{Graphs, Outcome, Solver, cut};
use crate::nn::kernel::draw::normal;
use crate::nn::{Params, Tensors};
use crate::training::data::generator;
use crate::training::run::error::TrainingError;

/// Each batch is cut into graphs of images, one for each view, and the graphs of two views are
/// matched: node i of one belongs to node i of the other. The loss is the Hamming distance to that,
/// averaged over the pairs of views: the two large ones with each other, and each large one with each
/// small crop; with `symmetric`, both ways.
///
/// Runs on the processor; features on another device are copied there and gradients back.
#[derive(Debug)]
pub struct GraphMatching {
    settings: Matching,
    newest: Option<Newest>,
}

/// The matching of the newest batch.
#[derive(Debug)]
struct Newest {
    outcome: Outcome,
    pair: MatchedPair,
}

/// One view of a batch as graphs.
struct Side {
    graphs: Graphs,
    /// Features of nodes after message passing, `[G, N, F]`.
    nodes: Tensor,
    /// The spans of the edges, `[G, E, F]`; none where edges do not count.
    spans: Option<Tensor>,
    /// `[B, C, R, S]`; none where local affinities do not count.
    map: Option<Tensor>,
}

/// The affinities of two views, one way.
struct Way {
    source: usize,
    target: usize,
    nodes: Tensor,
    edges: Option<Tensor>,
}

/// The weights of a layer of message passing: of what nodes hear, and of their own features.
fn layer(number: u32) -> [String; 2] {
    ["weight", "own"].map(|end| format!("objective.message.{number}.{end}"))
}

impl GraphMatching {
    /// The objective with these settings.
    pub fn new(settings: Matching) -> Self {
        Self { settings, newest: None }
    }

    fn nodes(&self) -> usize {
        self.settings.nodes as usize
    }

    fn has_edges(&self) -> bool {
        self.settings.edge_weight != 0.0
    }

    fn has_own(&self) -> bool {
        self.settings.convolution == Convolution::GraphConv
    }

    fn has_local(&self) -> bool {
        self.settings.local != Local::None && self.settings.alpha != 1.0
    }

    fn side(&self, params: &Params, view: &View) -> candle_core::Result<Side> {
        let here = |name: &str| params.tensor(name)?.to_device(&Device::Cpu);
        let embedding = view.features.embedding.to_device(&Device::Cpu)?;
        let weight = here("objective.projector.weight")?.t()?;
        let projected = embedding.matmul(&weight)?;
        let projected = projected.broadcast_add(&here("objective.projector.bias")?)?;
        let projected = cut(&projected, self.nodes())?;
        let graphs = Graphs::nearest(&projected, self.settings.neighbours as usize)?;
        let layers: candle_core::Result<Vec<Layer>> = (0..self.settings.message_layers)
            .map(|number| {
                let [heard, own] = layer(number);
                let own = self.has_own().then(|| here(&own)).transpose()?;
                Ok(Layer { heard: here(&heard)?, own })
            })
            .collect();
        let Matching { convolution, degree_norm, .. } = self.settings;
        let links = propagation(&graphs, convolution.into(), degree_norm.into(), &projected)?;
        let nodes = pass(&projected, &links, &layers?)?;
        let spans = self.has_edges().then(|| differences(&nodes, &graphs)).transpose()?;
        let map = self.has_local().then(|| view.features.feature_map.to_device(&Device::Cpu));
        Ok(Side { graphs, nodes, spans, map: map.transpose()? })
    }

    /// The affinities of a pair of views: from the first to the second and, with `symmetric`, back.
    fn ways(
        &self,
        views: &[View],
        sides: &[Side],
        (source, target): (usize, usize),
    ) -> candle_core::Result<Vec<Way>> {
        let Matching { alpha, edge_weight, symmetric, .. } = self.settings;
        let (one, two) = (&sides[source], &sides[target]);
        let apart = match (&one.map, &two.map) {
            (Some(map), Some(other)) => {
                let places = [places(&views[source], map)?, places(&views[target], other)?];
                Some(local((map, other), places, self.nodes(), self.closest())?)
            }
            _ => None,
        };
        let together = cosines(&one.nodes, &two.nodes)?;
        let [there, back] = mix(&together, apart.as_ref(), alpha, self.settings.local.into())?;
        let edges = match (&one.spans, &two.spans) {
            (Some(spans), Some(others)) => Some((cosines(spans, others)? * edge_weight)?),
            _ => None,
        };
        let turned = edges.as_ref().map(|edges| edges.transpose(1, 2)?.contiguous()).transpose()?;
        let mut ways = vec![Way { source, target, nodes: there, edges }];
        if symmetric {
            ways.push(Way { source: target, target: source, nodes: back, edges: turned });
        }
        Ok(ways)
    }

    fn closest(&self) -> Option<usize> {
        match self.settings.local {
            Local::None | Local::Eq3 => None,
            Local::Pseudo { gamma } => Some(gamma as usize),
        }
    }

    /// The noise of all problems, direction after direction.
    fn noise(&self, moment: Moment, directions: usize, graphs: &Graphs) -> Noise {
        let Moment { seed, step, part, .. } = moment;
        let scale = self.settings.noise.scale;
        // Of an edge, affinity and noise are weighed together: w (c^e + ε').
        let scales = Scales { nodes: scale, edges: scale * self.settings.edge_weight };
        let edges = if self.has_edges() { graphs.edges_each() } else { 0 };
        let counts = (self.nodes() * self.nodes(), edges * edges);
        Noise::draw(Place { seed, step, part }, (directions, graphs.count()), counts, scales)
    }

    fn black_box(&self, directions: usize) -> BlackBox {
        BlackBox {
            solver: if self.has_edges() { Solver::default() } else { Solver::first_order() },
            mode: self.settings.mode.into(),
            lambda: self.settings.lambda,
            share: 1.0 / directions as f64,
            implicit: self.settings.implicit,
        }
    }
}

impl Objective for GraphMatching {
    fn initial(&self, seed: u64, embedding: usize, _map: usize) -> Result<Tensors, TrainingError> {
        let channels = self.settings.channels as usize;
        let mut random = generator("objective/matching", seed, 0, 0);
        let mut matrix = |rows: usize, columns: usize, inputs: usize| {
            let values = normal(&mut random, rows * columns, (1.0 / inputs as f64).sqrt());
            Tensor::from_vec(values, (rows, columns), &Device::Cpu)
        };
        let mut tensors = Tensors::new();
        let mut add = |name: &str, tensor| tensors.insert(name.to_owned(), tensor);
        add("objective.projector.weight", matrix(channels, embedding, embedding)?);
        let bias = Tensor::zeros(channels, candle_core::DType::F32, &Device::Cpu)?;
        add("objective.projector.bias", bias);
        for number in 0..self.settings.message_layers {
            // Cosines do not see the scale of all of them together.
            let [heard, own] = layer(number);
            add(&heard, matrix(channels, channels, channels)?);
            if self.has_own() {
                add(&own, matrix(channels, channels, channels)?);
            }
        }
        Ok(tensors)
    }

    fn loss(
        &mut self,
        params: &Params,
        _teacher: Option<&Params>,
        shown: &Shown<'_>,
        moment: Moment,
    ) -> Result<Scored, TrainingError> {
        let sides: candle_core::Result<Vec<Side>> =
            shown.views.iter().map(|view| self.side(params, view)).collect();
        let sides = sides?;
        let mut ways = Vec::new();
        for pair in pairs(sides.len()) {
            ways.extend(self.ways(shown.views, &sides, pair)?);
        }
        let Some(first) = ways.first() else {
            return Err(candle_core::Error::Msg("matching needs two views".to_owned()).into());
        };

        let graphs = &sides[first.source].graphs;
        let nodes = Tensor::cat(&ways.iter().map(|way| &way.nodes).collect::<Vec<_>>(), 0)?;
        let edges: Option<Vec<&Tensor>> = ways.iter().map(|way| way.edges.as_ref()).collect();
        let edges = edges.map(|edges| Tensor::cat(&edges, 0)).transpose()?;
        let links = ways.iter().flat_map(|way| {
            let (source, target) = (&sides[way.source].graphs, &sides[way.target].graphs);
            let pairs = source.edges().iter().zip(target.edges());
            pairs.map(|(source, target)| Links { source: source.clone(), target: target.clone() })
        });
        let noise = self.noise(moment, ways.len(), graphs);
        let black_box = self.black_box(ways.len());
        let (v, outcome) = black_box.assign(&nodes, edges.as_ref(), links.collect(), noise)?;
        let loss = hamming(&v, self.settings.hamming.into(), graphs.count())?;
        let loss = (loss / ways.len() as f64)?;

        let mut series = vec![("matching_accuracy", outcome.accuracy())];
        series.extend(outcome.duality_gap().map(|gap| ("duality_gap", gap)));
        let pair = matched_pair(&outcome, &sides, first)?;
        self.newest = Some(Newest { outcome, pair });
        Ok(Scored { loss, series })
    }

    fn after_backward(&self) -> Vec<(&'static str, f64)> {
        let backward = self.newest.as_ref().and_then(|newest| newest.outcome.backward());
        backward.map_or_else(Vec::new, |backward| {
            vec![
                ("zero_gradient_share", backward.zero_share),
                ("affinity_gradient_norm", backward.norm),
            ]
        })
    }

    fn matched(&self) -> Option<MatchedPair> {
        self.newest.as_ref().map(|newest| newest.pair.clone())
    }
}

/// The pairs of views that are matched: the two large ones, and each of those with each small crop.
fn pairs(views: usize) -> Vec<(usize, usize)> {
    let with_small = (2..views).flat_map(|small| [(0, small), (1, small)]);
    if views < 2 { Vec::new() } else { std::iter::once((0, 1)).chain(with_small).collect() }
}

/// The places where the cells of every image's map lie.
fn places(view: &View, map: &Tensor) -> candle_core::Result<Vec<Vec<[f32; 2]>>> {
    let (images, _, rows, columns) = map.dims4()?;
    if view.crops.len() != images {
        bail!("{} crops for {images} images", view.crops.len());
    }
    Ok(view.crops.iter().map(|crop| crop.cells(rows, columns)).collect())
}

/// The first graph of the batch, matched the way of `way`.
fn matched_pair(outcome: &Outcome, sides: &[Side], way: &Way) -> candle_core::Result<MatchedPair> {
    let partners = outcome.partners(0).unwrap_or_default();
    let nodes = partners.len();
    let edges = |side: usize| -> Vec<(usize, usize)> {
        let first = sides[side].graphs.edges().first();
        first.into_iter().flatten().map(|(i, j)| (*i as usize, *j as usize)).collect()
    };
    let affinity = way.nodes.get(0)?.detach().to_dtype(candle_core::DType::F32)?;
    let partner = |at: u32| Some(at as usize).filter(|at| *at < nodes);
    Ok(MatchedPair {
        images: (0..nodes).collect(),
        partners: partners.into_iter().map(partner).collect(),
        affinity: affinity.to_vec2()?,
        first_edges: edges(way.source),
        second_edges: edges(way.target),
    })
}
