//! The objectives of pretraining on the views of a batch, as one trait with a method for each paper.

mod barlow;
mod choices;
mod contrast;
mod correlation;
mod dino;
mod matching;
mod moco;
mod nearest;
mod position;
mod projector;
mod scored;
mod simclr;
mod vic;
mod vicregl;
mod views;

pub use matching::GraphMatching;
pub use scored::{Moment, Objective, Scored};
pub use views::{Crop, MatchedPair, Shown, View};

use crate::domain::pretrain;

/// The objective of a recipe, for a run over `images` images.
pub fn objective(spec: &pretrain::Objective, images: usize) -> Box<dyn Objective> {
    match spec {
        pretrain::Objective::Matching(settings) => Box::new(GraphMatching::new(settings.clone())),
        pretrain::Objective::Simclr(settings) => Box::new(simclr::Contrastive::new(settings)),
        pretrain::Objective::BarlowTwins(settings) => Box::new(barlow::Twins::new(settings)),
        pretrain::Objective::Vicregl(settings) => Box::new(vicregl::Local::new(settings)),
        pretrain::Objective::MocoV2(settings) => Box::new(moco::Queued::new(settings, images)),
        pretrain::Objective::Dino(settings) => Box::new(dino::Distillation::new(settings)),
    }
}
