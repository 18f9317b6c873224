//! From the stored originals of a frozen version to the batches of training.
//!
//! ```text
//! original ─decode─> Compact ─> Cache ─brightness─> augmented ─normalise─> mixed ─> Batch
//! (Host)             u8, u16    memory, file        (seed, epoch, position)
//! ```
//!
//! - [`Pictures`] decodes each image once and keeps it in a [`Cache`]; one serves all splits of a run.
//! - [`Plan`] says which images make which batch: the order of every epoch, balanced or not.
//! - [`Feed`] puts the two together with augmentation and mixup. [`Feed::load`] makes one batch on the
//!   calling thread.
//! - [`Loader`] makes the batches of a feed on threads of its own, a bounded number ahead, in order,
//!   from any [`Place`] of a run:
//!
//! ```ignore
//! let pictures = Arc::new(Pictures::new(Source { host, limits, preprocessing, scratch }));
//! let labels: Vec<u32> = training.iter().map(|example| example.class() as u32).collect();
//! let plan = Plan::training(&labels, Drawing { batch_size: 16, imbalance, seed, epochs });
//! let steps = plan.batch_count() * u64::from(plan.epochs());
//! let feed = Feed::new(pictures, training, classes, plan).augmented(augmentation).mixed(mixup);
//! std::thread::scope(|scope| {
//!     let loader = Loader::start(scope, Arc::new(feed), Place { epoch, batch }, Prefetch::default())?;
//!     for batch in loader {
//!         let batch = batch?; // input [N, 3, size, size], targets [N, K], labels, indices
//!     }
//!     Ok(())
//! })
//! ```
//!
//! Every random choice is a function of the seed, the epoch and the place within it, so that batches
//! are the same for any number of threads, and after resuming anywhere. [`Mixing`] and
//! [`Plan::batches`] also serve training on cached activations, where there is nothing to decode.

pub(in crate::training) mod activations;
mod affine;
mod augment;
mod cache;
mod compact;
pub(in crate::training) mod example;
mod feed;
pub(in crate::training) mod few_shot;
pub(in crate::training) mod glimpses;
mod loader;
mod making;
mod mixup;
mod order;
mod pictures;
pub(in crate::training) mod prepared;
mod tones;

pub use affine::{Affine, resample};
pub use augment::Drawn;
pub use cache::{Cache, Room, Use};
pub use compact::{Compact, Part};
pub use feed::{Batch, Feed};
pub use loader::{Loader, Prefetch};
pub use making::{Making, Place};
pub use mixup::Mixing;
pub use order::{Drawing, Plan, class_weights, generator};
pub use pictures::{Pictures, Source};
pub use tones::{Square, blur, contrast, gamma};
