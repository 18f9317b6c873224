//! VICRegL: the criterion of VICReg on whole views, and on cells that are matched by where they lie
//! and by what they look like.
//!
//! Bardes et al., "VICRegL: Self-Supervised Learning of Local Visual Features", 2022, section 3.

use candle_core::{DType, Tensor, bail};

use super::nearest::{closest, distances};
use super::projector::{Between, Projector};
use super::scored::{Moment, Objective, Scored, number, sum};
use super::vic::{Spread, Terms, invariance};
use super::views::{Shown, View};
use crate::domain::pretrain::Vicregl;
use crate::nn::{Params, Tensors};
use crate::training::data::generator;
use crate::training::run::error::TrainingError;

/// The objective with its two projectors of three layers.
#[derive(Debug)]
pub(super) struct Local {
    settings: Vicregl,
    /// Of whole views.
    views: Projector,
    /// Of single cells.
    cells: Projector,
}

impl Local {
    pub(super) fn new(settings: &Vicregl) -> Self {
        let widths = [settings.hidden, settings.hidden, settings.output];
        Self {
            settings: settings.clone(),
            views: Projector::new("objective.projector", &widths, Between::NormalisedRelu),
            cells: Projector::new("objective.cells", &widths, Between::NormalisedRelu),
        }
    }

    /// The criterion on whole views: invariance over the pairs, variance and covariance over all
    /// views.
    fn global(&self, params: &Params, views: &[View]) -> candle_core::Result<Terms> {
        let project =
            |view: &View| self.views.forward(params, &view.features.embedding)?.unsqueeze(1);
        let z = views.iter().map(project).collect::<candle_core::Result<Vec<_>>>()?;
        let agreement = pairs(z.len())
            .into_iter()
            .map(|(one, other, weight)| Ok((weight, invariance(&z[one], &z[other])?)));
        let spreads = z.iter().map(Spread::of).collect::<candle_core::Result<Vec<_>>>()?;
        let share = 1.0 / z.len() as f64;
        let variances = spreads.iter().map(|spread| (share, spread.variance.clone()));
        let covariances = spreads.iter().map(|spread| (share, spread.covariance.clone()));
        Ok(Terms([
            sum(agreement.collect::<candle_core::Result<Vec<_>>>()?)?,
            sum(variances.collect())?,
            sum(covariances.collect())?,
        ]))
    }

    /// The criterion on matched cells, a mean over the pairs of views.
    fn local(&self, params: &Params, views: &[View]) -> candle_core::Result<Terms> {
        let project = |view: &View| Cells::new(&self.cells, params, view);
        let cells = views.iter().map(project).collect::<candle_core::Result<Vec<_>>>()?;
        let mut parts = Vec::new();
        for (one, other, weight) in pairs(views.len()) {
            let (one, other) = (&cells[one], &cells[other]);
            let kept = self.kept(one.count, other.count, cells[0].count);
            for (from, to) in [(one, other), (other, one)] {
                // Half for each direction, one for each kind of match.
                let half = weight / 2.0;
                let (x, y) = from.pairs_by_location(to, kept)?;
                parts.push((half, Terms::of(&x, &y)?));
                let (x, y) = from.pairs_by_features(to)?;
                parts.push((half, Terms::of(&x, &y)?));
            }
        }
        Terms::sum(parts)
    }

    /// Pairs kept by location: gamma for two large views, and in proportion to the smaller map where
    /// one is of a small crop (20 of 49 cells are 4 of 9, the authors' values).
    fn kept(&self, one: usize, other: usize, large: usize) -> usize {
        let smaller = one.min(other);
        let share = f64::from(self.settings.gamma) * smaller as f64 / large as f64;
        (share.ceil() as usize).clamp(1, smaller)
    }
}

impl Objective for Local {
    fn initial(&self, seed: u64, embedding: usize, map: usize) -> Result<Tensors, TrainingError> {
        let mut tensors = Tensors::new();
        if self.settings.alpha > 0.0 {
            let mut random = generator("vicregl", seed, 0, 0);
            self.views.initial(&mut random, embedding, &mut tensors)?;
        }
        if self.settings.alpha < 1.0 {
            let mut random = generator("vicregl", seed, 0, 1);
            self.cells.initial(&mut random, map, &mut tensors)?;
        }
        Ok(tensors)
    }

    /// `α ℓ(z, z') + (1 − α) (L_s + L_d)` with the criterion ℓ of VICReg: L_s over pairs of cells by
    /// location, of which the gamma closest are kept, L_d over those by features, of which all are
    /// (as in the authors' code); a mean over the two directions of each. Every large view is paired
    /// with every other view, small crops included.
    fn loss(
        &mut self,
        params: &Params,
        _teacher: Option<&Params>,
        shown: &Shown<'_>,
        _moment: Moment,
    ) -> Result<Scored, TrainingError> {
        shown.several("vicregl")?;
        shown.large()?;
        let Vicregl { alpha, invariance, variance, covariance, .. } = self.settings;
        let mut criteria = Vec::new();
        if alpha > 0.0 {
            let names = ["invariance", "variance", "covariance"];
            criteria.push((alpha, self.global(params, shown.views)?, names));
        }
        if alpha < 1.0 {
            let names = ["local_invariance", "local_variance", "local_covariance"];
            criteria.push((1.0 - alpha, self.local(params, shown.views)?, names));
        }
        let (mut parts, mut series) = (Vec::new(), Vec::new());
        for (share, terms, names) in criteria {
            parts.push((share, terms.total([invariance, variance, covariance])?));
            for (name, term) in names.into_iter().zip(&terms.0) {
                series.push((name, number(term)?));
            }
        }
        Ok(Scored { loss: sum(parts)?, series })
    }
}

/// Pairs of a large view and any other view, each once, and weights that sum to one. Counted from
/// each large view, the two make two pairs with each other and one with every small crop.
fn pairs(views: usize) -> Vec<(usize, usize, f64)> {
    let share = 1.0 / (2 * (views - 1)) as f64;
    let small = (2..views).flat_map(|small| [(0, small, share), (1, small, share)]);
    [(0, 1, 2.0 * share)].into_iter().chain(small).collect()
}

/// The output of the projector for the cells of a view.
struct Cells {
    /// `[B · count, C]`, image after image.
    rows: Tensor,
    /// Cells of an image.
    count: usize,
    /// The places where the cells of each image lie.
    places: Vec<Vec<[f32; 2]>>,
}

impl Cells {
    fn new(projector: &Projector, params: &Params, view: &View) -> candle_core::Result<Self> {
        let map = &view.features.feature_map;
        let (images, channels, rows, columns) = map.dims4()?;
        if view.crops.len() != images {
            bail!("{} crops for {images} images", view.crops.len());
        }
        let cells = map.flatten_from(2)?.transpose(1, 2)?.contiguous()?.reshape(((), channels))?;
        let places = view.crops.iter().map(|crop| crop.cells(rows, columns)).collect();
        Ok(Self { rows: projector.forward(params, &cells)?, count: rows * columns, places })
    }

    /// The cells that lie closest to one of `other`, with it: both `[B, kept, C]`.
    fn pairs_by_location(
        &self,
        other: &Self,
        kept: usize,
    ) -> candle_core::Result<(Tensor, Tensor)> {
        let places = self.places.iter().zip(&other.places);
        let found =
            places.map(|(own, of_other)| closest(&distances(own, of_other), other.count, kept));
        self.pick(other, found.collect())
    }

    /// Every cell with that of `other` whose features are closest: both `[B, count, C]`.
    fn pairs_by_features(&self, other: &Self) -> candle_core::Result<(Tensor, Tensor)> {
        let images = self.places.len();
        let of = |cells: &Self| cells.rows.detach().reshape((images, cells.count, ()));
        let (x, y) = (of(self)?, of(other)?);
        // ‖x − y‖² without ‖x‖², which is the same for all candidates of a cell.
        let lengths = y.sqr()?.sum(2)?.unsqueeze(1)?;
        let distances = (x.matmul(&y.t()?)? * -2.0)?.broadcast_add(&lengths)?;
        let distances = distances.flatten_from(1)?.to_dtype(DType::F64)?;
        let found = distances.to_vec2::<f64>()?;
        let found = found.iter().map(|image| closest(image, other.count, self.count));
        self.pick(other, found.collect())
    }

    /// The cells and candidates of these pairs, as many for each image.
    fn pick(
        &self,
        other: &Self,
        pairs: Vec<Vec<(usize, usize)>>,
    ) -> candle_core::Result<(Tensor, Tensor)> {
        let images = pairs.len();
        let (mut own, mut partners) = (Vec::new(), Vec::new());
        for (image, pairs) in pairs.into_iter().enumerate() {
            for (cell, candidate) in pairs {
                own.push((image * self.count + cell) as u32);
                partners.push((image * other.count + candidate) as u32);
            }
        }
        let channels = self.rows.dim(1)?;
        let take = |rows: &Tensor, indices: Vec<u32>| {
            let indices = Tensor::new(indices, rows.device())?;
            rows.index_select(&indices, 0)?.reshape((images, (), channels))
        };
        Ok((take(&self.rows, own)?, take(&other.rows, partners)?))
    }
}
