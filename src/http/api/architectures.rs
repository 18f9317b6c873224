//! The architectures of networks that are known here.

use serde::Serialize;

use crate::domain::{Architecture, Role};
use crate::http::wire::answer::shape::{Items, Json};
use crate::http::wire::caller::Caller;
use crate::http::wire::documented::Guarded;
use crate::http::wire::problem::Problem;

/// An architecture of networks, and what can be told of it without weights.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct KnownArchitecture {
    /// The word for it in requests.
    architecture: Architecture,
    /// Its name for people.
    title: &'static str,
    /// Length of the embedding.
    embedding_size: usize,
    /// Stages (blocks of a transformer) that the method `last` can choose from.
    stages: usize,
    /// Pixels of which the side of an input is a multiple.
    size_step: u32,
    /// Whether the method `lora` is for it.
    has_attention: bool,
}

/// All architectures that weights can be imported of, family by family, smallest first.
#[utoipa::path(get, path = "/api/v1/architectures", tag = "backbones",
    operation_id = "list_architectures",
    responses((status = 200, description = "All architectures", body = Items<KnownArchitecture>),
        Guarded))]
pub async fn list(caller: Caller) -> Result<Json<Items<KnownArchitecture>>, Problem> {
    caller.must(Role::Viewer)?;
    let known = Architecture::all().iter().map(|architecture| {
        let facts = architecture.family().facts();
        KnownArchitecture {
            architecture: *architecture,
            title: facts.title,
            embedding_size: facts.embedding_size,
            stages: facts.stages,
            size_step: facts.size_step,
            has_attention: facts.has_attention,
        }
    });
    Ok(Items::json(known.collect()))
}
