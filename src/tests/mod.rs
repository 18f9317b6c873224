//! Integration tests: the product seen from outside, one file an area.

mod access;
mod bad_input;
mod browser;
mod checkpoints;
mod cluster;
mod database;
mod deletion;
mod dicom_corpus;
mod dicom_values;
mod dicoms;
mod evaluation;
mod full_disk;
mod gradients;
mod importing;
mod killed;
mod layering;
mod main_job;
mod openapi;
mod parsers;
mod pictures;
mod privacy;
mod probe;
mod server;
mod split;
mod store;
mod torch_zip;
