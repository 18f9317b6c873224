//! The choices that the method leaves open, each with where it comes from.

/// The assignments that are allowed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Every node has exactly one partner (the paper's `U(1,1)`, Eq. 4).
    #[default]
    Bijection,
    /// A node may stay alone, at an affinity of 0 (what the authors' solver allows).
    Partial,
}

/// The way in which a node hears of its neighbours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Convolution {
    /// `D̃^{-1/2} (A + I) D̃^{-1/2} H W` (Eq. 1; Kipf and Welling 2017).
    #[default]
    Gcn,
    /// `H W' + A H W` (Morris et al. 2019), as the authors' code has it.
    GraphConv,
}

/// Degrees by which message passing is normalised (Eq. 1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum DegreeNorm {
    /// Sums of `A + I` (Kipf and Welling 2017).
    #[default]
    Kipf,
    /// Sums of `A` alone, as the paper prints it.
    Paper,
}

/// The sum that the local affinities of two feature maps are taken in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Local {
    /// No local affinities.
    None,
    /// Eq. 2 and 3: the mean by location plus the mean by features over all cells, both directions.
    #[default]
    Eq3,
    /// The pseudo-code of appendix A: half the sum of the means over the closest cells, one direction.
    Pseudo,
}

/// The divisor of the Hamming loss, which changes the effective `lambda`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Hamming {
    /// Nothing (Eq. 5).
    #[default]
    Sum,
    /// The nodes of a graph.
    MeanNodes,
    /// The graphs of a batch.
    MeanGraphs,
}
