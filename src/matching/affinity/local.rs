//! Local affinities of two views as one differentiable operator: all pairs of cells of a graph by
//! matrix products, the nearest of each picked, their cosines averaged (LVM-Med, Eq. 2).

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp2, DType, Layout, Result, Shape, Tensor, WithDType, bail};
use rayon::prelude::*;

use super::cells::Cells;
use super::picks::{Both, Place};
use crate::nn::gemm::{Into, Matrix, Target, Threads, multiply};
use crate::nn::ops::{Borrowed, values};

/// Cells of the other view that one matrix product covers, so that it stays in the cache.
const WIDTH: usize = 1024;

/// Local affinities of every pair of images of a graph, `[2, G, N, N]`, of feature maps `source`
/// `[B, C, R, S]` and `target` `[B, C, R', S']`. With `[0, g, i, a]` from image i of the source to
/// image a of the target, and `[1, g, i, a]` from a to i, each is
/// `mean_p cos(q_p, q'_m(p)) + mean_p cos(q_p, q'_m'(p))`: p runs over the cells of the map that it
/// goes from, m(p) is the cell of the other that lies nearest to p in `places`, m'(p) the one whose
/// features are nearest by Euclidean distance. With `closest`, each mean runs over that many pairs,
/// the nearest by the distance they were found by.
///
/// `places` has the centres of the cells of each image, row by row of the map, for both views.
/// The gradient is that of the cosines; which cells are picked has none. Images after the last whole
/// graph of `nodes` get a gradient of zero.
pub fn local(
    (source, target): (&Tensor, &Tensor),
    places: [Vec<Vec<Place>>; 2],
    nodes: usize,
    closest: Option<usize>,
) -> Result<Tensor> {
    let sizes = Sizes::of(source, target, nodes)?;
    let maps = sizes.graphs * nodes;
    for (places, count) in places.iter().zip(sizes.cells) {
        if places.len() < maps || places[..maps].iter().any(|places| places.len() != count) {
            bail!("{count} cells of each of {maps} maps need a place");
        }
    }
    let (source, target) = (source.contiguous()?, target.contiguous()?);
    match source.dtype() {
        DType::F32 => source.apply_op2(&target, Local::<f32>::new(sizes, places, closest)),
        _ => source.apply_op2(&target, Local::<f64>::new(sizes, places, closest)),
    }
}

#[derive(Debug, Clone, Copy)]
struct Sizes {
    graphs: usize,
    nodes: usize,
    channels: usize,
    /// Cells of a map of the source, and of the target.
    cells: [usize; 2],
}

impl Sizes {
    fn of(source: &Tensor, target: &Tensor, nodes: usize) -> Result<Self> {
        let (images, channels, rows, columns) = source.dims4()?;
        let (others, other_channels, other_rows, other_columns) = target.dims4()?;
        let cells = [rows * columns, other_rows * other_columns];
        if images != others || channels != other_channels || source.dtype() != target.dtype() {
            bail!("maps {:?} cannot be matched with {:?}", source.shape(), target.shape());
        }
        if nodes == 0 || images < nodes || channels * cells[0] * cells[1] == 0 {
            bail!("maps {:?} make no graph of {nodes} nodes", source.shape());
        }
        Ok(Self { graphs: images / nodes, nodes, channels, cells })
    }
}

struct Local<T> {
    sizes: Sizes,
    places: [Vec<Vec<Place>>; 2],
    closest: Option<usize>,
    /// What the way back needs of the way there.
    kept: Mutex<Option<Arc<Kept<T>>>>,
}

#[derive(Debug)]
struct Kept<T> {
    cells: [Cells<T>; 2],
    /// Of image i of the source, across all graphs, with each image of its graph of the target.
    picks: Vec<Vec<Both>>,
}

impl<T: WithDType> Local<T> {
    fn new(sizes: Sizes, places: [Vec<Vec<Place>>; 2], closest: Option<usize>) -> Self {
        Self { sizes, places, closest, kept: Mutex::new(None) }
    }

    fn forward(&self, maps: [&[T]; 2]) -> Vec<T> {
        let Sizes { graphs, nodes, channels, cells } = self.sizes;
        let in_graphs = |map: usize| {
            Cells::new(&maps[map][..graphs * nodes * channels * cells[map]], channels, cells[map])
        };
        let cells = [in_graphs(0), in_graphs(1)];
        let images: Vec<(Vec<[T; 2]>, Vec<Both>)> =
            (0..graphs * nodes).into_par_iter().map(|image| self.image(&cells, image)).collect();
        let mut out = Vec::with_capacity(2 * graphs * nodes * nodes);
        for way in 0..2 {
            out.extend(images.iter().flat_map(|(means, _)| means.iter().map(move |m| m[way])));
        }
        let picks = images.into_iter().map(|(_, picks)| picks).collect();
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Arc::new(Kept { cells, picks }));
        out
    }

    /// Image `own` of the source with every image of its graph of the target: affinities there and
    /// back, and the picks they are made of.
    fn image(&self, cells: &[Cells<T>; 2], own: usize) -> (Vec<[T; 2]>, Vec<Both>) {
        let Sizes { nodes, cells: [first, second], .. } = self.sizes;
        let start = own / nodes * nodes;
        let together = (WIDTH / second).clamp(1, nodes);
        let mut products = vec![T::zero(); first * together * second];
        let (mut means, mut picks) = (Vec::with_capacity(nodes), Vec::with_capacity(nodes));
        for others in (start..start + nodes).step_by(together) {
            let others = others..(others + together).min(start + nodes);
            let width = others.len() * second;
            let products = &mut products[..first * width];
            let right = cells[1].of(others.clone()).transposed();
            let out = Target::new(products, first, width);
            multiply(out, cells[0].of(own..own + 1), right, Into::Replace, Threads::One);
            for (at, other) in others.enumerate() {
                let cosine = |p: usize, q: usize| products[p * width + at * second + q];
                let both = self.choose(cells, (own, other), cosine);
                means.push([mean(&both.there, cosine), mean(&both.back, |q, p| cosine(p, q))]);
                picks.push(both);
            }
        }
        (means, picks)
    }

    fn choose(
        &self,
        cells: &[Cells<T>; 2],
        (own, other): (usize, usize),
        cosine: impl Fn(usize, usize) -> T,
    ) -> Both {
        let [first, second] = self.sizes.cells;
        let (places, others) = (&self.places[0][own], &self.places[1][other]);
        let location = |p: usize, q: usize| {
            let (down, across) = (places[p][0] - others[q][0], places[p][1] - others[q][1]);
            down * down + across * across
        };
        let (lengths, other_lengths) = (cells[0].lengths(own), cells[1].lengths(other));
        // |q − q'|² = |q|² + |q'|² − 2 |q| |q'| cos.
        let features = |p: usize, q: usize| {
            let (one, two) = (lengths[p], other_lengths[q]);
            one * one + two * two - (one + one) * two * cosine(p, q)
        };
        Both::choose((first, second), location, features, self.closest)
    }

    /// The gradients of both maps.
    fn gradients(&self, kept: &Kept<T>, grad: &[T], lengths: [usize; 2]) -> [Vec<T>; 2] {
        let Sizes { graphs, nodes, cells: [first, second], .. } = self.sizes;
        let pairs = graphs * nodes * nodes;
        // What a cosine of the picks of a pair gets, there and back.
        let share = |own: usize, at: usize| {
            let place = own * nodes + at;
            let both = &kept.picks[own][at];
            let part = |sum: T, picks: usize| T::from_f64(2.0 * sum.to_f64() / picks as f64);
            [part(grad[place], both.there.len()), part(grad[pairs + place], both.back.len())]
        };
        let of_source = |own: usize| {
            let start = own / nodes * nodes;
            let mut weights = vec![T::zero(); first * nodes * second];
            for (at, both) in kept.picks[own].iter().enumerate() {
                let [there, back] = share(own, at);
                let mut add = |p: u32, q: u32, part: T| {
                    weights[(p as usize * nodes + at) * second + q as usize] += part;
                };
                both.there.iter().for_each(|(p, q)| add(*p, *q, there));
                both.back.iter().for_each(|(q, p)| add(*p, *q, back));
            }
            let left = Matrix::new(&weights, first, nodes * second);
            self.unit_gradient(left, kept.cells[1].of(start..start + nodes))
        };
        let of_target = |other: usize| {
            let (start, at) = (other / nodes * nodes, other % nodes);
            let mut weights = vec![T::zero(); second * nodes * first];
            for (own, image) in (start..start + nodes).enumerate() {
                let ([there, back], both) = (share(image, at), &kept.picks[image][at]);
                let mut add = |p: u32, q: u32, part: T| {
                    weights[(q as usize * nodes + own) * first + p as usize] += part;
                };
                both.there.iter().for_each(|(p, q)| add(*p, *q, there));
                both.back.iter().for_each(|(q, p)| add(*p, *q, back));
            }
            let left = Matrix::new(&weights, second, nodes * first);
            self.unit_gradient(left, kept.cells[0].of(start..start + nodes))
        };
        [
            self.collect(&kept.cells[0], lengths[0], of_source),
            self.collect(&kept.cells[1], lengths[1], of_target),
        ]
    }

    fn unit_gradient(&self, weights: Matrix<'_, T>, units: Matrix<'_, T>) -> Vec<T> {
        let rows = weights.rows();
        let mut out = vec![T::zero(); rows * self.sizes.channels];
        let target = Target::new(&mut out, rows, self.sizes.channels);
        multiply(target, weights, units, Into::Replace, Threads::One);
        out
    }

    fn collect(
        &self,
        cells: &Cells<T>,
        length: usize,
        of_map: impl Fn(usize) -> Vec<T> + Sync,
    ) -> Vec<T> {
        let mut out = vec![T::zero(); length];
        let maps = out.par_chunks_exact_mut(self.sizes.channels * cells.each);
        let in_graphs = maps.take(self.sizes.graphs * self.sizes.nodes).enumerate();
        in_graphs.for_each(|(map, out)| cells.gradient(map, &of_map(map), out));
        out
    }
}

/// Twice the mean cosine of picks that are half by location and half by features: the sum of the two
/// means.
fn mean<T: WithDType>(picks: &[(u32, u32)], cosine: impl Fn(usize, usize) -> T) -> T {
    let sum: f64 = picks.iter().map(|(p, q)| cosine(*p as usize, *q as usize).to_f64()).sum();
    T::from_f64(2.0 * sum / picks.len() as f64)
}

impl<T: WithDType> CustomOp2 for Local<T> {
    fn name(&self) -> &'static str {
        "local-affinities"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let out = self.forward([values::<T>(s1, l1)?, values::<T>(s2, l2)?]);
        let Sizes { graphs, nodes, .. } = self.sizes;
        Ok((T::to_cpu_storage_owned(out), (2, graphs, nodes, nodes).into()))
    }

    fn bwd(
        &self,
        source: &Tensor,
        target: &Tensor,
        _out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(kept) = kept else { bail!("local affinities were not computed forward") };
        let grad = grad.contiguous()?;
        let lengths = [source.elem_count(), target.elem_count()];
        let [one, other] = self.gradients(&kept, Borrowed::of(&grad).values::<T>()?, lengths);
        let tensor = |values: Vec<T>, like: &Tensor| {
            Tensor::from_vec(values, like.shape(), like.device()).map(Some)
        };
        Ok((tensor(one, source)?, tensor(other, target)?))
    }
}
