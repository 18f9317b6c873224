//! Local affinities of two views as one differentiable operator: all pairs of cells of a graph by
//! matrix products, the nearest of each picked, their cosines averaged (LVM-Med, Eq. 2).

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp2, DType, Layout, Result, Shape, Tensor, WithDType, bail};
use rayon::prelude::*;

use super::cells::Cells;
use super::picks::{Both, Picks, Place};
use crate::nn::gemm::{Into, Matrix, Target, Threads, multiply};
use crate::nn::ops::{Borrowed, values};

/// Cells of the one view and of the other that a matrix product covers: enough for it to pay, few
/// enough for its outcome to stay in the cache.
const HEIGHT: usize = 256;
const WIDTH: usize = 1024;
/// Weights of cosines that are laid out at a time backward, of which there are as many as pairs of
/// cells in a graph: without a limit a gigabyte for maps of 64 by 64.
const WEIGHTS: usize = 1 << 17;

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
    /// The values of the forward pass that the backward pass needs.
    kept: Mutex<Option<Arc<Kept<T>>>>,
}

#[derive(Debug)]
struct Kept<T> {
    cells: [Cells<T>; 2],
    /// Of image i of the source, across all graphs, with each image of its graph of the target.
    picks: Vec<Vec<Both>>,
}

/// Of an image of the source with each image of its graph of the target: affinities there and back,
/// and the picks they are means of.
type Found<T> = (Vec<[T; 2]>, Vec<Both>);

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
        let parts = self.parts(0).into_par_iter().map(|own| self.part(&cells, own));
        let parts: Vec<Vec<Found<T>>> = parts.collect();
        let images: Vec<Found<T>> = parts.into_iter().flatten().collect();
        let mut out = Vec::with_capacity(2 * graphs * nodes * nodes);
        for way in 0..2 {
            out.extend(images.iter().flat_map(|(means, _)| means.iter().map(move |m| m[way])));
        }
        let picks = images.into_iter().map(|(_, picks)| picks).collect();
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Arc::new(Kept { cells, picks }));
        out
    }

    /// The images of a view in parts, each within a graph, that are looked at together.
    fn parts(&self, view: usize) -> Vec<Range<usize>> {
        let Sizes { graphs, nodes, cells, .. } = self.sizes;
        let together = (HEIGHT / cells[view]).clamp(1, nodes);
        let of_graph = |graph: usize| {
            let end = (graph + 1) * nodes;
            let starts = (graph * nodes..end).step_by(together);
            starts.map(move |start| start..(start + together).min(end))
        };
        (0..graphs).flat_map(of_graph).collect()
    }

    /// Images of the source with every image of their graph of the target.
    fn part(&self, cells: &[Cells<T>; 2], own: Range<usize>) -> Vec<Found<T>> {
        let Sizes { nodes, cells: [first, second], .. } = self.sizes;
        let start = own.start / nodes * nodes;
        let together = (WIDTH / second).clamp(1, nodes);
        let mut products = vec![T::zero(); own.len() * first * together * second];
        let mut found: Vec<Found<T>> = own.clone().map(|_| (Vec::new(), Vec::new())).collect();
        for others in (start..start + nodes).step_by(together) {
            let others = others..(others + together).min(start + nodes);
            let (height, width) = (own.len() * first, others.len() * second);
            let products = &mut products[..height * width];
            let right = cells[1].of(others.clone()).transposed();
            let out = Target::new(products, height, width);
            multiply(out, cells[0].of(own.clone()), right, Into::Replace, Threads::One);
            for ((means, picks), (row, own)) in found.iter_mut().zip(own.clone().enumerate()) {
                let products = &products[row * first * width..(row + 1) * first * width];
                for (at, other) in others.clone().enumerate() {
                    let cosine = |p: usize, q: usize| products[p * width + at * second + q];
                    let both = self.choose(cells, (own, other), cosine);
                    means.push([mean(&both.there, cosine), mean(&both.back, |q, p| cosine(p, q))]);
                    picks.push(both);
                }
            }
        }
        found
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

    /// The gradients of the maps of a view.
    fn gradients(&self, kept: &Kept<T>, view: usize, grad: &[T], length: usize) -> Vec<T> {
        let Sizes { nodes, cells, channels, .. } = self.sizes;
        let (each, row) = (cells[view], nodes * cells[1 - view]);
        let together = (WEIGHTS / row).max(1);
        let of_part = |own: Range<usize>| {
            let start = own.start / nodes * nodes;
            let units = kept.cells[1 - view].of(start..start + nodes);
            let mut out = vec![T::zero(); own.len() * each * channels];
            let mut weights = Vec::new();
            for (block, out) in out.chunks_mut(together * channels).enumerate() {
                let rows = block * together..block * together + out.len() / channels;
                weights.clear();
                weights.resize(rows.len() * row, T::zero());
                for image in rows.start / each..rows.end.div_ceil(each) {
                    let first = image * each;
                    let within = rows.start.max(first)..rows.end.min(first + each);
                    let weights = &mut weights[(within.start - rows.start) * row..];
                    let own_cells = within.start - first..within.end - first;
                    self.weigh(kept, grad, (view, own.start + image, own_cells), weights);
                }
                let left = Matrix::new(&weights, rows.len(), row);
                let target = Target::new(out, rows.len(), channels);
                multiply(target, left, units, Into::Replace, Threads::One);
            }
            out
        };
        self.collect(view, &kept.cells[view], length, of_part)
    }

    /// Adds to `weights`, `[those cells, N, other cells]`, what the cosine of some cells of an image
    /// with each cell of its graph of the other view counts for.
    fn weigh(
        &self,
        kept: &Kept<T>,
        grad: &[T],
        (view, image, own_cells): (usize, usize, Range<usize>),
        weights: &mut [T],
    ) {
        let Sizes { graphs, nodes, cells, .. } = self.sizes;
        let (start, others) = (image / nodes * nodes, cells[1 - view]);
        let part = |place: usize, picks: &Picks| {
            T::from_f64(2.0 * grad[place].to_f64() / picks.len() as f64)
        };
        for at in 0..nodes {
            let (own, other) = if view == 0 { (image, at) } else { (start + at, image - start) };
            let (both, place) = (&kept.picks[own][other], own * nodes + other);
            let mut add = |p: u32, q: u32, part: T| {
                let (cell, other) = if view == 0 { (p, q) } else { (q, p) };
                if own_cells.contains(&(cell as usize)) {
                    let cell = cell as usize - own_cells.start;
                    weights[(cell * nodes + at) * others + other as usize] += part;
                }
            };
            let there = part(place, &both.there);
            both.there.iter().for_each(|(p, q)| add(*p, *q, there));
            let back = part(graphs * nodes * nodes + place, &both.back);
            both.back.iter().for_each(|(q, p)| add(*p, *q, back));
        }
    }

    /// The gradient of the maps of a view from what parts of it find for their unit rows.
    fn collect(
        &self,
        view: usize,
        cells: &Cells<T>,
        length: usize,
        of_part: impl Fn(Range<usize>) -> Vec<T> + Sync,
    ) -> Vec<T> {
        let size = self.sizes.channels * cells.each;
        let mut out = vec![T::zero(); length];
        let mut rest = &mut out[..];
        let mut parts = Vec::new();
        for part in self.parts(view) {
            let (own, others) = std::mem::take(&mut rest).split_at_mut(part.len() * size);
            parts.push((part, own));
            rest = others;
        }
        parts.into_par_iter().for_each(|(part, out)| {
            let of_units = of_part(part.clone());
            let maps = out.chunks_exact_mut(size).zip(of_units.chunks_exact(size));
            for (map, (out, of_units)) in part.zip(maps) {
                cells.gradient(map, of_units, out);
            }
        });
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
        let borrowed = Borrowed::of(&grad);
        let gradient = |view: usize, map: &Tensor| {
            let values = borrowed.values::<T>()?;
            let gradient = self.gradients(&kept, view, values, map.elem_count());
            Tensor::from_vec(gradient, map.shape(), map.device()).map(Some)
        };
        Ok((gradient(0, source)?, gradient(1, target)?))
    }
}
