//! The ground that runs of every kind stand on in tests: a network of random weights and a version of
//! nothing.

use std::collections::BTreeMap;
use std::path::Path;

use lvmed::config::{Compute, Device, Limits};
use lvmed::domain::backbone::{ChannelOrder, Origin, Parity};
use lvmed::domain::dataset::Version;
use lvmed::domain::name::Name;
use lvmed::domain::run::Provenance;
use lvmed::domain::{
    Architecture, Backbone, BackboneId, DatasetId, Preprocessing, RunId, Sha256, Task, VersionId,
};
use lvmed::inference::Runtime;
use lvmed::training::Ground;
use time::OffsetDateTime;

/// Side of the pictures and of what networks see.
pub(crate) const SIDE: u32 = 32;

/// The ground of a run whose model has this name, on two threads and with all memory.
pub(crate) fn ground(title: &str, scratch: &Path) -> Ground {
    let compute = Compute { onnx_runtime: None, device: Device::Cpu, threads: 2 };
    Ground {
        run: RunId::new(),
        provenance: Provenance {
            dataset_digest: Sha256::of(b"version"),
            backbone_sha256: Some(Sha256::of(b"weights")),
            code_version: "0.0.0".to_owned(),
            threads: Some(2),
            micro_batch: None,
        },
        name: name(title),
        dataset: name("sides"),
        version: version(),
        runtime: Runtime::load(&compute).expect("ONNX Runtime is installed"),
        threads: 2,
        scratch: scratch.to_owned(),
        limits: Limits::default(),
        memory_bytes: u64::MAX,
        calibration: None,
    }
}

pub(crate) fn name(text: &str) -> Name {
    Name::parse(text).expect("a name")
}

/// A version of two classes.
pub(crate) fn version() -> Version {
    Version {
        id: VersionId::new(),
        dataset: DatasetId::new(),
        number: 1,
        task: Task::Classification,
        digest: Sha256::of(b"version"),
        seed: 0,
        labels: vec!["left".to_owned(), "right".to_owned()],
        splits: BTreeMap::new(),
        notices: vec![],
        created_at: OffsetDateTime::UNIX_EPOCH,
    }
}

pub(crate) fn preprocessing(architecture: Architecture) -> Preprocessing {
    let size = side(architecture);
    Preprocessing { size, channel_order: ChannelOrder::Rgb, mean: [0.5; 3], std: [0.25; 3] }
}

/// The side of the pictures, or the next smaller one that the architecture takes.
pub(crate) fn side(architecture: Architecture) -> u32 {
    SIDE - SIDE % architecture.family().facts().size_step
}

/// A backbone of this name and licence.
pub(crate) fn backbone(title: &str, license: &str, architecture: Architecture) -> Backbone {
    Backbone {
        id: BackboneId::new(),
        name: name(title),
        architecture,
        preprocessing: preprocessing(architecture),
        embedding_size: architecture.embedding_size() as u32,
        parameters: 0,
        weights_sha256: Sha256::of(b"weights"),
        weights_size_bytes: 0,
        onnx_sha256: Sha256::of(b"onnx"),
        source_sha256: Sha256::of(b"source"),
        source_url: "https://example.org/weights".to_owned(),
        license: license.to_owned(),
        notices: vec![],
        parity: Parity { max_relative_difference: 0.0, bound: 1e-3 },
        origin: Origin::default(),
        created_at: OffsetDateTime::UNIX_EPOCH,
    }
}
