//! Integration tests: the product seen from outside, one file an area.

mod access;
mod api;
mod app;
mod bad_input;
mod browser;
mod canaries;
mod checkpoints;
mod circles;
mod cluster;
mod commands;
mod connections;
mod damage;
mod database;
mod decode;
mod deletion;
mod dicom_corpus;
mod dicom_values;
mod dicoms;
mod dinov2;
mod engine;
mod evaluation;
mod full_disk;
mod gradients;
mod gradients_vit;
mod ground;
mod hidden;
mod hostile;
mod importing;
mod killed;
mod layering;
mod loading;
mod local_affinities;
mod main_job;
mod matching;
mod matching_solver;
mod names;
mod objectives;
mod openapi;
mod optimisers;
mod parity;
mod parsers;
mod pictures;
mod pretraining;
mod pretraining_api;
mod privacy;
mod probe;
mod raw_dicom;
mod recipes;
mod recorded;
mod server;
mod skipped;
mod split;
mod store;
mod structure;
mod tensors;
mod torch_zip;
mod training;
mod uploads;
mod vit;

/// A folder of the larger test sets; none, and said so, where they are not.
pub(crate) fn test_data(name: &str) -> Option<std::path::PathBuf> {
    let folder =
        std::env::var_os("LVMED_TEST_DATA").map(|data| std::path::Path::new(&data).join(name));
    let found = folder.filter(|folder| folder.is_dir());
    if found.is_none() {
        let reason = format!("LVMED_TEST_DATA names no folder with {name}");
        skipped::skip(skipped::Need::TestData, &reason);
    }
    found
}
