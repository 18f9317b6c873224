//! Weights on the page: those of a network for volumes, and random ones for trying out.

use std::collections::BTreeMap;

use candle_core::Tensor;
use lvmed::domain::Architecture;
use lvmed::nn::weights::{random, write};

use super::driver::Browser;
use crate::server::Server;

#[tokio::test(flavor = "multi_thread")]
async fn weights_for_volumes_are_flattened_at_a_click_and_random_ones_made_at_another() {
    let Some(browser) = Browser::start().await else { return };
    let server = Server::start_with(&[("LVMED_WORKERS", "0")]);
    let files = tempfile::tempdir().expect("a temporary folder");
    let file = files.path().join("deep.safetensors");
    let mut deep = random(Architecture::RESNET18, 1).expect("random weights");
    for tensor in deep.values_mut().filter(|tensor| tensor.rank() == 4) {
        *tensor = Tensor::stack(&[&*tensor, &*tensor], 2).expect("two halves");
    }
    write(&deep, &BTreeMap::new(), &file).expect("written");

    browser.open(&server.address, "#/backbones").await;
    browser.wait_for_text("origins", "For non-commercial use only").await;
    browser.screenshot("49-where-weights-come-from").await;
    browser.choose_file("backbone-file", &file).await;
    browser.type_into("backbone-name", "Deep").await;
    browser.type_into("backbone-source", "https://example.org").await;
    browser.type_into("backbone-license", "MIT").await;
    browser.set("backbone-size", "64").await;
    browser.click("import-backbone").await;
    browser.wait_for_text("flatten-note", "3-D").await;
    browser.screenshot("50-import-asks-to-flatten").await;
    let note = browser.text("flatten-note").await;
    browser.click("flatten").await;
    browser.wait_for_text("backbone-card", "Deep").await;
    browser.screenshot("51-import-flattened").await;
    let unfold = "document.querySelector('[data-testid=origins]').open = true";
    browser.execute(unfold).await;
    browser.click("random-backbone").await;
    browser.wait_for_page_text("random weights, for trying out").await;

    assert!(note.lines().count() < 8, "{note}");
    let listed = server.get("/api/v1/backbones").await;
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(2), "{listed:#}");
    browser.stop().await;
}
