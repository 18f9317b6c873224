//! The exact names and shapes of each architecture's tensors, as torchvision and SAM have them.

use std::collections::BTreeMap;

use crate::domain::Architecture;
use crate::nn::{resnet, vit};

/// Endings of a normalisation layer's tensors.
pub(super) const NORM: [&str; 4] = ["weight", "bias", "running_mean", "running_var"];

/// Every tensor of an architecture with its shape: no classifier, no `num_batches_tracked`.
pub fn expected(architecture: Architecture) -> BTreeMap<String, Vec<usize>> {
    if let Some(layout) = vit::Layout::of(architecture) {
        return layout.tensors();
    }
    let mut shapes = BTreeMap::new();
    let Some(layout) = resnet::Layout::of(architecture) else {
        return shapes;
    };
    let mut layer = |conv: &str, norm: &str, shape: [usize; 4]| {
        shapes.insert(format!("{conv}.weight"), shape.to_vec());
        for ending in NORM {
            shapes.insert(format!("{norm}.{ending}"), vec![shape[0]]);
        }
    };
    layer("conv1", "bn1", [64, 3, 7, 7]);
    for block in layout.each_block() {
        let prefix = &block.prefix;
        for (number, input, output, kernel, _) in block.convolutions() {
            let (conv, norm) = (format!("{prefix}.conv{number}"), format!("{prefix}.bn{number}"));
            layer(&conv, &norm, [output, input, kernel, kernel]);
        }
        if block.has_downsample() {
            let (conv, norm) = (format!("{prefix}.downsample.0"), format!("{prefix}.downsample.1"));
            layer(&conv, &norm, [block.output, block.input, 1, 1]);
        }
    }
    shapes
}

#[cfg(test)]
mod tests {
    use super::expected;
    use crate::domain::Architecture;

    #[test]
    fn resnet50_has_torchvisions_265_tensors_and_23508032_weights() {
        let shapes = expected(Architecture::Resnet50);

        let trained = shapes.iter().filter(|(name, _)| !name.contains("running_"));
        let weights: usize = trained.map(|(_, shape)| shape.iter().product::<usize>()).sum();
        assert_eq!(shapes.len(), 265);
        assert_eq!(weights, 23_508_032);
        assert_eq!(shapes["layer4.0.downsample.0.weight"], [2048, 1024, 1, 1]);
    }
}
