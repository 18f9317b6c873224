//! SAM's image encoder: patches, blocks, and a neck that leads to the feature map.

use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor, Var, bail};

use super::layout::Layout;
use super::neck::Neck;
use super::parameters::Block;
use super::tower::Tower;
use crate::nn::backbone::network::{Network, Way};
use crate::nn::layer::linear::parameters::Layer;
use crate::nn::layer::patches::{self, Patches};

use crate::nn::tape::gradients::Gradients;
use crate::nn::tape::params::Params;
use crate::nn::tape::pass::Features;
use crate::nn::tape::pass::Pass;
use crate::nn::tape::sink::Sink;

/// A vision transformer.
#[derive(Debug, Clone)]
pub(super) struct Vit {
    layout: Arc<Layout>,
    patches: Layer,
    blocks: Vec<Block>,
    neck: Neck,
    /// The sink where the layers on the CPU put the gradients of their parameters.
    sink: Sink,
    /// Joins those layers to candle's graph, which does not know their parameters.
    anchor: Var,
}

impl Vit {
    /// The network over `params`, which keep its values. Where they have low-rank factors (see
    /// [`crate::nn::layer::lora`]), those are added to the weights with `alpha` equal to their rank.
    pub(super) fn new(layout: &Layout, params: &Params) -> Result<Self> {
        let patches = Layer::new(params, "patch_embed.proj")?;
        let tensor = &patches.weight.tensor;
        let anchor = Tensor::zeros((), tensor.dtype(), tensor.device())?;
        Ok(Self {
            blocks: (0..layout.depth)
                .map(|block| Block::new(params, layout, block))
                .collect::<Result<_>>()?,
            neck: Neck::new(params)?,
            sink: Sink::default(),
            anchor: Var::from_tensor(&anchor)?,
            layout: Arc::new(layout.clone()),
            patches,
        })
    }

    /// Multiplies the products of low-rank factors by `alpha` over their rank.
    pub(super) fn with_alpha(mut self, alpha: f64) -> Result<Self> {
        for block in &mut self.blocks {
            let factors = [&mut block.qkv_low_rank, &mut block.proj_low_rank];
            for low_rank in factors.into_iter().flatten() {
                low_rank.set_alpha(alpha)?;
            }
        }
        Ok(self)
    }

    fn first_of(&self, stages: usize) -> usize {
        self.blocks.len().saturating_sub(stages)
    }

    fn embed(&self, images: &Tensor, pass: Pass) -> Result<Tensor> {
        let (layer, patch, anchor) = (&self.patches, self.layout.patch, self.anchor(pass));
        match (images.device(), images.dtype()) {
            (Device::Cpu, DType::F32) => {
                Patches::<f32>::apply(layer, patch, &self.sink, images, anchor)
            }
            (Device::Cpu, DType::F64) => {
                Patches::<f64>::apply(layer, patch, &self.sink, images, anchor)
            }
            _ => patches::composed(layer, patch, images),
        }
    }

    fn anchor(&self, pass: Pass) -> Option<&Tensor> {
        match pass {
            Pass::Training => Some(self.anchor.as_tensor()),
            Pass::Inference => None,
        }
    }

    fn through(&self, blocks: &[Block], tokens: Tensor, pass: Pass) -> Result<Tensor> {
        if blocks.is_empty() {
            return Ok(tokens);
        }
        let (layout, sink, anchor) = (&self.layout, &self.sink, self.anchor(pass));
        match (tokens.device(), tokens.dtype()) {
            (Device::Cpu, DType::F32) => Tower::<f32>::apply(layout, blocks, sink, &tokens, anchor),
            (Device::Cpu, DType::F64) => Tower::<f64>::apply(layout, blocks, sink, &tokens, anchor),
            _ => blocks.iter().try_fold(tokens, |tokens, block| block.composed(layout, &tokens)),
        }
    }
}

impl Network for Vit {
    /// Tokens `[N, H / patch, W / patch, D]`.
    fn trunk(&self, images: &Tensor, stages: usize, way: Way) -> Result<Tensor> {
        let (_, channels, height, width) = images.dims4()?;
        let patch = self.layout.patch;
        if channels != 3 || height % patch != 0 || width % patch != 0 || height * width == 0 {
            bail!("{channels}x{height}x{width} pictures have no whole patches of {patch} pixels");
        }
        let tokens = self.embed(images, way.pass)?;
        self.through(&self.blocks[..self.first_of(stages)], tokens, way.pass)
    }

    /// The embedding is the mean of the tokens, `[N, D]`, the feature map what the neck makes of them,
    /// `[N, neck, H, W]`.
    fn tail(&self, tokens: &Tensor, stages: usize, way: Way) -> Result<Features> {
        let blocks = &self.blocks[self.first_of(stages)..];
        let tokens = self.through(blocks, tokens.clone(), way.pass)?;
        let embedding = tokens.flatten(1, 2)?.mean(1)?;
        Ok(Features { embedding, feature_map: self.neck.forward(&tokens)? })
    }

    fn take_gradients(&self) -> Gradients {
        self.sink.take()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use candle_core::{DType, Device, Tensor};
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::{Layout, Network, Params, Pass, Vit, Way, patches};
    use crate::nn::backbone::family::Family;
    use crate::nn::kernel::draw::normal;
    use crate::nn::layer::lora;
    use crate::nn::tape::gradients::Gradients;
    use crate::nn::tape::pass::Mode;

    const WAY: Way = Way { pass: Pass::Training, mode: Mode::Frozen };

    /// Odd sides, a window that does not fit, and tables that are interpolated.
    fn network() -> (Layout, Params) {
        let layout = Layout {
            patch: 4,
            channels: 12,
            depth: 2,
            heads: 3,
            hidden: 20,
            window: 2,
            global: &[1],
            grid: 6,
            neck: 8,
            ..Layout::BASE
        };
        let mut random = StdRng::seed_from_u64(5);
        let tensor = |(name, shape): (String, Vec<usize>)| {
            let values = normal(&mut random, shape.iter().product(), 0.4);
            (name, Tensor::from_vec(values, shape, &Device::Cpu).expect("a tensor"))
        };
        let mut tensors: BTreeMap<_, _> = layout.tensors().into_iter().map(tensor).collect();
        lora::insert(&mut tensors, 2, 1).expect("factors");
        for (name, tensor) in &mut tensors {
            if name.ends_with("lora_b") {
                let values = normal(&mut random, tensor.elem_count(), 0.3);
                *tensor = Tensor::from_vec(values, tensor.shape(), &Device::Cpu).expect("a tensor");
            }
        }
        let params = Params::new(&tensors, DType::F64, &Device::Cpu).expect("parameters");
        (layout, params)
    }

    fn values(tensor: &Tensor) -> Vec<f64> {
        tensor.flatten_all().and_then(|flat| flat.to_vec1()).expect("values")
    }

    #[test]
    fn the_composed_path_equals_the_kernels_forward_and_backward() {
        let (layout, params) = network();
        let vit = Vit::new(&layout, &params).and_then(|vit| vit.with_alpha(3.0)).expect("it fits");
        let mut random = StdRng::seed_from_u64(6);
        let pixels: Vec<f64> =
            (0..2 * 3 * 12 * 20).map(|_| random.random_range(-1.0..1.0)).collect();
        let images = Tensor::from_vec(pixels, (2, 3, 12, 20), &Device::Cpu).expect("pictures");

        let kernels = vit.trunk(&images, 0, WAY).expect("tokens");
        let composed = patches::composed(&vit.patches, 4, &images).expect("tokens");
        let composed = vit.blocks.iter().try_fold(composed, |x, block| block.composed(&layout, &x));
        let composed = composed.expect("tokens");

        for (one, other) in values(&kernels).iter().zip(values(&composed)) {
            assert!((one - other).abs() < 1e-11 * other.abs().max(1.0), "{one} {other}");
        }
        let loss = |tokens: &Tensor| tokens.sqr().and_then(|x| x.sum_all()).expect("a loss");
        let store = loss(&kernels).backward().expect("gradients");
        let mut found = Gradients::from_store(&params, &store);
        found.add(vit.take_gradients()).expect("gradients");
        let store = loss(&composed).backward().expect("gradients");
        let wanted = Gradients::from_store(&params, &store);
        assert!(found.iter().map(|(name, _)| name).eq(wanted.iter().map(|(name, _)| name)));
        assert_eq!(found.len(), params.trainable().count() - 6, "all but the neck's");
        for ((name, one), (_, other)) in found.iter().zip(wanted.iter()) {
            let largest = values(other).iter().fold(0.0_f64, |most, x| most.max(x.abs()));
            for (one, other) in values(one).iter().zip(values(other)) {
                assert!((one - other).abs() < 1e-10 * largest, "{name}: {one} {other}");
            }
        }
    }
}
