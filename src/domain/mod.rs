//! The product's vocabulary: plain data and its invariants, with no HTTP, SQL or tensors.

pub mod augmentation;
mod data;
pub mod forecast;
pub mod head;
pub mod imbalance;
mod method;
pub mod pretrain;
mod results;
pub mod run;
pub mod training;
mod words;

pub use data::split::Split;
pub use data::target::Target;
pub use data::task::Task;
pub use data::{dataset, image, patients, receipt, split, target, task};
pub use head::HeadRule;
pub use results::backbone::{Architecture, Backbone, Preprocessing};
pub use results::{backbone, evaluation, model};
pub use words::digest::Sha256;
pub use words::ids::{
    BackboneId, DatasetId, ImageId, KeyId, ModelId, RunId, UploadId, VersionId, WorkerId,
};
pub use words::lifetime::Lifetime;
pub use words::role::Role;
pub use words::size::Size;
pub use words::{counted, digest, ids, lifetime, line, name, role, seed, size, word};
