//! Parameter groups: how fast each parameter learns, and how much of it decays.

use std::fmt;
use std::sync::Arc;

use crate::nn::backbone::architecture::Architecture;
use crate::nn::backbone::family::Place;

/// The factors that set a parameter apart from others.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Group {
    /// Multiplies the learning rate.
    pub rate: f64,
    /// Multiplies the weight decay.
    pub decay: f64,
}

type Rule = dyn Fn(&str, usize) -> Group + Send + Sync;

/// The group of every parameter, by its name and its number of dimensions.
#[derive(Clone)]
pub struct Groups(Arc<Rule>);

impl Groups {
    /// All parameters learn alike. Biases and normalisation parameters (one dimension) do not decay,
    /// here and in [`Self::layerwise`].
    pub fn uniform() -> Self {
        Self::by(|_, rank| Group { rate: 1.0, decay: decay_of(rank) })
    }

    /// Layer-wise learning-rate decay (Clark et al. 2020, "ELECTRA"): the learning rate of a stage of
    /// a residual network or a block of a transformer is multiplied by `decay` to the power of its
    /// depth from the top. The last stage has depth 1, what comes before the first one more than the
    /// first, and what comes after the last depth 0: a neck, and the head, which is no part of the
    /// backbone.
    pub fn layerwise(architecture: Architecture, decay: f64) -> Self {
        let stages = architecture.stages();
        let depth = move |name: &str| match architecture.family().place(name) {
            Some(Place::Stem) => stages + 1,
            Some(Place::Stage(stage)) => stages - stage,
            Some(Place::Top | Place::Map) | None => 0,
        };
        Self::by(move |name, rank| Group {
            rate: decay.powi(depth(name) as i32),
            decay: decay_of(rank),
        })
    }

    /// Groups by any rule of a name and a number of dimensions.
    pub fn by(rule: impl Fn(&str, usize) -> Group + Send + Sync + 'static) -> Self {
        Self(Arc::new(rule))
    }

    /// The group of a parameter.
    pub fn of(&self, name: &str, rank: usize) -> Group {
        (self.0)(name, rank)
    }
}

fn decay_of(rank: usize) -> f64 {
    if rank > 1 { 1.0 } else { 0.0 }
}

impl fmt::Debug for Groups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Groups")
    }
}

#[cfg(test)]
mod tests {
    use super::{Architecture, Groups, Place};

    #[test]
    fn the_head_learns_fastest_and_the_stem_slowest() {
        for architecture in Architecture::all().iter().copied() {
            let groups = Groups::layerwise(architecture, 0.5);
            let rate = |name: &str| groups.of(name, 2).rate;
            let names = architecture.tensors();
            let below = |name: &&String| {
                !matches!(architecture.family().place(name), Some(Place::Top | Place::Map))
            };
            let rates = || names.keys().filter(below).map(|name| rate(name));
            let (slowest, fastest) = (rates().fold(1.0, f64::min), rates().fold(0.0, f64::max));

            assert_eq!((rate("fc.weight"), rate("neck.0.weight")), (1.0, 1.0));
            assert_eq!(fastest, 0.5);
            assert_eq!(slowest, 0.5_f64.powi(architecture.stages() as i32 + 1));
        }
    }

    #[test]
    fn stages_of_a_residual_network_halve_one_by_one() {
        let groups = Groups::layerwise(Architecture::RESNET50, 0.5);

        let rates = ["layer4.2.conv3.weight", "layer3.0.bn1.bias", "layer1.0.conv1.weight"]
            .map(|name| groups.of(name, 4).rate);

        assert_eq!(rates, [0.5, 0.25, 0.0625]);
        assert_eq!(groups.of("conv1.weight", 4).rate, 0.03125);
        assert_eq!((groups.of("bn1.bias", 1).decay, groups.of("fc.weight", 2).decay), (0.0, 1.0));
    }
}
