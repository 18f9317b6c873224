//! The choices of a recipe as those that matching has: it knows no recipes.

use crate::domain::pretrain as recipe;
use crate::matching::{Convolution, DegreeNorm, Hamming, Local, Mode};

impl From<recipe::Mode> for Mode {
    fn from(mode: recipe::Mode) -> Self {
        match mode {
            recipe::Mode::Bijection => Self::Bijection,
            recipe::Mode::Partial => Self::Partial,
        }
    }
}

impl From<recipe::Convolution> for Convolution {
    fn from(convolution: recipe::Convolution) -> Self {
        match convolution {
            recipe::Convolution::Gcn => Self::Gcn,
            recipe::Convolution::GraphConv => Self::GraphConv,
        }
    }
}

impl From<recipe::DegreeNorm> for DegreeNorm {
    fn from(norm: recipe::DegreeNorm) -> Self {
        match norm {
            recipe::DegreeNorm::Kipf => Self::Kipf,
            recipe::DegreeNorm::Paper => Self::Paper,
        }
    }
}

impl From<recipe::Local> for Local {
    fn from(local: recipe::Local) -> Self {
        match local {
            recipe::Local::None => Self::None,
            recipe::Local::Eq3 => Self::Eq3,
            recipe::Local::Pseudo { .. } => Self::Pseudo,
        }
    }
}

impl From<recipe::Hamming> for Hamming {
    fn from(hamming: recipe::Hamming) -> Self {
        match hamming {
            recipe::Hamming::Sum => Self::Sum,
            recipe::Hamming::MeanNodes => Self::MeanNodes,
            recipe::Hamming::MeanGraphs => Self::MeanGraphs,
        }
    }
}
