//! The product's vocabulary: plain data and its invariants, with no HTTP, SQL or tensors.

mod artifact;
pub mod augmentation;
pub mod backbone;
pub mod counted;
pub mod dataset;
pub mod digest;
pub mod evaluation;
pub mod forecast;
pub mod head;
pub mod ids;
pub mod image;
pub mod imbalance;
pub mod lifetime;
pub mod line;
mod method;
pub mod model;
pub mod name;
pub mod patients;
pub mod pretrain;
pub mod receipt;
pub mod role;
pub mod run;
pub mod seed;
pub mod size;
pub mod split;
pub mod target;
pub mod task;
pub mod training;
pub mod word;

pub use backbone::{Architecture, Backbone, Preprocessing};
pub use digest::Sha256;
pub use head::HeadRule;
pub use ids::{
    BackboneId, DatasetId, ImageId, KeyId, ModelId, RunId, UploadId, VersionId, WorkerId,
};
pub use lifetime::Lifetime;
pub use role::Role;
pub use size::Size;
pub use split::Split;
pub use target::Target;
pub use task::Task;
