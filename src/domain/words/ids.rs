//! Identifiers: one newtype a kind of thing, so that a run's id cannot be passed for a model's.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! id {
    ($(#[$doc:meta] $name:ident),+ $(,)?) => {$(
        #[$doc]
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
            utoipa::ToSchema,
        )]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A fresh identifier that sorts by the time it was made (UUID version 7).
            #[expect(clippy::new_without_default, reason = "a default id would be a hidden side effect")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    )+};
}

id! {
    /// Names a backbone.
    BackboneId,
    /// Names a dataset.
    DatasetId,
    /// Names a frozen dataset version.
    VersionId,
    /// Names one decoded picture of a dataset.
    ImageId,
    /// Names a run.
    RunId,
    /// Names a published model.
    ModelId,
    /// Names one worker process for as long as it lives.
    WorkerId,
    /// Names an API key (not the key itself).
    KeyId,
    /// Names an upload for as long as it goes on.
    UploadId,
}
