//! Settings of LVM-Med's second-order graph matching; defaults are the paper's.

use serde::{Deserialize, Serialize};

use crate::domain::training::{BadSetting, outside};

/// Which assignments are allowed.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Every node has exactly one partner (the paper's `U(1,1)`, Eq. 4).
    #[default]
    Bijection,
    /// A node may stay alone, at an affinity of 0 (what the authors' solver allows).
    Partial,
}

/// How a node hears of its neighbours.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Convolution {
    /// `D̃^{-1/2} (A + I) D̃^{-1/2} H W` (Eq. 1; Kipf and Welling 2017): its own features weigh as much
    /// as those of one neighbour.
    #[default]
    Gcn,
    /// `H W' + A H W` (Morris et al. 2019), as the authors' code has it: its own features have weights
    /// of their own, and those of its neighbours are added up.
    GraphConv,
}

/// Degrees by which message passing is normalised (Eq. 1).
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum DegreeNorm {
    /// Sums of `A + I` (Kipf and Welling 2017).
    #[default]
    Kipf,
    /// Sums of `A` alone, as the paper prints it.
    Paper,
}

/// How the local affinities of two feature maps are summed up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "reading", rename_all = "lowercase", deny_unknown_fields)]
pub enum Local {
    /// No local affinities.
    None,
    /// Eq. 2 and 3: the mean by location plus the mean by features over all cells, both directions.
    #[default]
    Eq3,
    /// The pseudo-code of appendix A: half the sum of the means over the `gamma` closest cells, one
    /// direction.
    Pseudo {
        /// Closest pairs kept of each kind.
        #[schema(minimum = 1, maximum = 4096)]
        gamma: u32,
    },
}

/// Gumbel noise on the affinities while matching.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = MatchingNoise)]
#[serde(deny_unknown_fields, default)]
pub struct Noise {
    /// Scale of Gumbel(0, scale); the paper has 1, the authors' later code 0.05. 0 is no noise.
    #[schema(minimum = 0.0, maximum = 100.0, default = 0.05)]
    pub scale: f64,
}

impl Default for Noise {
    fn default() -> Self {
        Self { scale: 1.0 }
    }
}

/// What the Hamming loss is divided by, which changes the effective `lambda`.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Hamming {
    /// Nothing (Eq. 5).
    #[default]
    Sum,
    /// The nodes of a graph.
    MeanNodes,
    /// The graphs of a batch.
    MeanGraphs,
}

/// Where settings of matching come from that a recipe leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum MatchingPreset {
    /// The paper's, whatever the start.
    Paper,
}

/// Second-order graph matching between two views of a batch (LVM-Med, section 3).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Matching {
    /// `paper`: settings that a request leaves out are the paper's, two `message_layers` and
    /// noise of scale 1 among them. When it is absent there are no message layers, which our studies found
    /// to harm, and `noise.scale` is 0.05.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preset: Option<MatchingPreset>,
    /// Images in a graph; what remains of a batch after whole graphs makes no graph.
    #[schema(minimum = 2, maximum = 128)]
    pub nodes: u32,
    /// Nearest neighbours that each node has an edge to.
    #[schema(minimum = 1, maximum = 127)]
    pub neighbours: u32,
    /// Channels of the projector and of message passing.
    #[schema(minimum = 2, maximum = 4096)]
    pub channels: u32,
    /// Layers of message passing; 0 leaves it out, the paper has 2.
    #[schema(maximum = 8, default = 0)]
    pub message_layers: u32,
    /// How messages are passed.
    pub convolution: Convolution,
    /// `gcn`: degrees by which message passing is normalised.
    pub degree_norm: DegreeNorm,
    /// Share of the global affinity in that of two nodes (Eq. 3).
    #[schema(minimum = 0.0, maximum = 1.0)]
    pub alpha: f64,
    /// How local affinities are summed up.
    pub local: Local,
    /// Weight of the affinities of edges; 0 makes the problem first-order.
    #[schema(minimum = 0.0, maximum = 100.0)]
    pub edge_weight: f64,
    /// Which assignments are allowed.
    pub mode: Mode,
    /// Noise on the affinities.
    #[schema(default = json!({"scale": 0.05}))]
    pub noise: Noise,
    /// Step of the black-box gradient (Eq. 6).
    #[schema(minimum = 1e-6, maximum = 1_000_000.0)]
    pub lambda: f64,
    /// Whether the gradient is the difference of the solutions without `1 / lambda`
    /// (implicit MLE's target form).
    pub implicit: bool,
    /// What the Hamming loss is divided by.
    pub hamming: Hamming,
    /// Whether each pair of views is matched both ways.
    pub symmetric: bool,
}

/// Edges of a graph at most: affinities of edges grow with their square.
const MOST_EDGES: u64 = 1024;

impl Default for Matching {
    fn default() -> Self {
        Self {
            preset: None,
            nodes: 16,
            neighbours: 5,
            channels: 128,
            message_layers: 2,
            convolution: Convolution::default(),
            degree_norm: DegreeNorm::default(),
            alpha: 0.8,
            local: Local::default(),
            edge_weight: 1.0,
            mode: Mode::default(),
            noise: Noise::default(),
            lambda: 80.0,
            implicit: false,
            hamming: Hamming::default(),
            symmetric: true,
        }
    }
}

impl Matching {
    pub(super) fn validate(&self, batch_size: u32) -> Vec<BadSetting> {
        let whole = |number: u32| f64::from(number);
        let gamma = match self.local {
            Local::Pseudo { gamma } => gamma,
            Local::None | Local::Eq3 => 1,
        };
        let mut wrong = outside(&[
            ("/objective/nodes", whole(self.nodes), 2.0, 128.0, "2 to 128"),
            ("/objective/neighbours", whole(self.neighbours), 1.0, 127.0, "1 to 127"),
            ("/objective/channels", whole(self.channels), 2.0, 4096.0, "2 to 4096"),
            ("/objective/message_layers", whole(self.message_layers), 0.0, 8.0, "0 to 8"),
            ("/objective/alpha", self.alpha, 0.0, 1.0, "0 to 1"),
            ("/objective/local/gamma", whole(gamma), 1.0, 4096.0, "1 to 4096"),
            ("/objective/edge_weight", self.edge_weight, 0.0, 100.0, "0 to 100"),
            ("/objective/noise/scale", self.noise.scale, 0.0, 100.0, "0 to 100"),
            ("/objective/lambda", self.lambda, 1e-6, 1e6, "1e-6 to 1000000"),
        ]);
        if self.neighbours >= self.nodes {
            wrong.push(BadSetting::DoesNotFit {
                pointer: "/objective/neighbours".to_owned(),
                detail: format!(
                    "a graph of {} nodes has at most {} neighbours a node; {} are asked for",
                    self.nodes,
                    self.nodes.saturating_sub(1),
                    self.neighbours
                ),
            });
        }
        let edges = u64::from(self.nodes) * u64::from(self.neighbours);
        if self.edge_weight != 0.0 && edges > MOST_EDGES {
            wrong.push(BadSetting::DoesNotFit {
                pointer: "/objective/neighbours".to_owned(),
                detail: format!(
                    "{} nodes with {} neighbours each have {edges} edges, and every pair of edges has \
                     an affinity; {MOST_EDGES} edges are the most",
                    self.nodes, self.neighbours
                ),
            });
        }
        if batch_size < self.nodes {
            wrong.push(BadSetting::DoesNotFit {
                pointer: "/learning/batch_size".to_owned(),
                detail: format!(
                    "a batch of {batch_size} images makes no graph of {} nodes",
                    self.nodes
                ),
            });
        }
        wrong
    }
}
