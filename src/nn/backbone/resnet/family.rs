//! The architectures of residual networks: their facts, tensors and first values.

use std::any::Any;
use std::collections::BTreeMap;

use candle_core::Result;

use super::layout::Layout;
use super::network::ResNet;
use crate::nn::backbone::architecture::Architecture;
use crate::nn::backbone::family::{Facts, Family, First, Place};
use crate::nn::backbone::network::Network;
use crate::nn::tape::params::{Params, Tensors};

/// Endings of a normalisation layer's tensors.
const NORM: [&str; 4] = ["weight", "bias", "running_mean", "running_var"];
/// Beginnings of the names of what comes before the first stage.
const STEM: [&str; 2] = ["conv1.", "bn1."];

impl Architecture {
    /// ResNet-18.
    pub const RESNET18: Self = Self::of(&Layout {
        word: "resnet18",
        title: "ResNet-18",
        blocks: [2, 2, 2, 2],
        bottleneck: false,
    });
    /// ResNet-34.
    pub const RESNET34: Self = Self::of(&Layout {
        word: "resnet34",
        title: "ResNet-34",
        blocks: [3, 4, 6, 3],
        bottleneck: false,
    });
    /// ResNet-50, the architecture of `lvmmed_resnet.torch`.
    pub const RESNET50: Self = Self::of(&Layout {
        word: "resnet50",
        title: "ResNet-50",
        blocks: [3, 4, 6, 3],
        bottleneck: true,
    });
    /// ResNet-101.
    pub const RESNET101: Self = Self::of(&Layout {
        word: "resnet101",
        title: "ResNet-101",
        blocks: [3, 4, 23, 3],
        bottleneck: true,
    });
    /// ResNet-152.
    pub const RESNET152: Self = Self::of(&Layout {
        word: "resnet152",
        title: "ResNet-152",
        blocks: [3, 8, 36, 3],
        bottleneck: true,
    });
}

/// The architectures of this family.
pub const KNOWN: &[Architecture] = &[
    Architecture::RESNET18,
    Architecture::RESNET34,
    Architecture::RESNET50,
    Architecture::RESNET101,
    Architecture::RESNET152,
];

impl Family for Layout {
    fn facts(&self) -> Facts {
        let channels = 512 * self.expansion();
        Facts {
            word: self.word,
            title: self.title,
            embedding_size: channels,
            map_channels: channels,
            map_stride: 32,
            stages: self.blocks.len(),
            size_step: 32,
            has_batch_norm: true,
            has_attention: false,
        }
    }

    fn tensors(&self) -> BTreeMap<String, Vec<usize>> {
        let mut shapes = BTreeMap::new();
        let mut layer = |conv: &str, norm: &str, shape: [usize; 4]| {
            shapes.insert(format!("{conv}.weight"), shape.to_vec());
            for ending in NORM {
                shapes.insert(format!("{norm}.{ending}"), vec![shape[0]]);
            }
        };
        layer("conv1", "bn1", [64, 3, 7, 7]);
        for block in self.each_block() {
            let prefix = &block.prefix;
            for (number, input, output, kernel, _) in block.convolutions() {
                let (conv, norm) =
                    (format!("{prefix}.conv{number}"), format!("{prefix}.bn{number}"));
                layer(&conv, &norm, [output, input, kernel, kernel]);
            }
            if block.has_downsample() {
                let (conv, norm) =
                    (format!("{prefix}.downsample.0"), format!("{prefix}.downsample.1"));
                layer(&conv, &norm, [block.output, block.input, 1, 1]);
            }
        }
        shapes
    }

    fn place(&self, name: &str) -> Option<Place> {
        if STEM.iter().any(|start| name.starts_with(start)) {
            return Some(Place::Stem);
        }
        let (stage, _) = name.strip_prefix("layer")?.split_once('.')?;
        let stage: usize = stage.parse().ok()?;
        (1..=self.blocks.len()).contains(&stage).then(|| Place::Stage(stage - 1))
    }

    /// Convolutions normal with variance `2 / fan_out` (He et al. 2015), normalisation 1, 0, 0, 1.
    fn first(&self, name: &str, shape: &[usize]) -> First {
        match shape {
            [outputs, _, height, width] => {
                First::Normal((2.0 / (outputs * height * width) as f64).sqrt())
            }
            _ if name.ends_with("running_var") || name.ends_with("weight") => First::Constant(1.0),
            _ => First::Constant(0.0),
        }
    }

    fn ignores(&self, _: &str) -> bool {
        false
    }

    fn adopt(&self, tensors: Tensors) -> Result<(Tensors, Vec<String>)> {
        Ok((tensors, Vec::new()))
    }

    fn build(&self, params: &Params, _: Option<f64>) -> Result<Box<dyn Network>> {
        Ok(Box::new(ResNet::new(self, params)?))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::Architecture;

    #[test]
    fn resnet50_has_torchvisions_265_tensors_and_23508032_weights() {
        let shapes = Architecture::RESNET50.tensors();

        let trained = shapes.iter().filter(|(name, _)| !name.contains("running_"));
        let weights: usize = trained.map(|(_, shape)| shape.iter().product::<usize>()).sum();
        assert_eq!(shapes.len(), 265);
        assert_eq!(weights, 23_508_032);
        assert_eq!(shapes["layer4.0.downsample.0.weight"], [2048, 1024, 1, 1]);
    }
}
