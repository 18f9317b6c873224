//! The architecture as a table: which module may use which, checked against every `use crate::`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The layers, and what each may use beside itself. The top of the house (`cli`, `serve`, `worker`)
/// is not listed: it may use anything, and nothing may use it but itself.
const LAYERS: &[(&str, &[&str])] = &[
    ("config", &[]),
    ("domain", &["nn"]),
    ("telemetry", &["config"]),
    ("estimate", &["domain", "store"]),
    ("imaging", &["config", "domain"]),
    ("decode", &["config", "domain", "imaging", "nn"]),
    ("nn", &[]),
    ("matching", &["nn"]),
    ("onnx", &["nn"]),
    ("inference", &["config", "domain", "imaging", "nn", "onnx"]),
    ("training", &["config", "domain", "imaging", "nn", "matching", "onnx", "inference"]),
    ("store", &["config", "domain"]),
    (
        "service",
        &["config", "decode", "domain", "estimate", "imaging", "inference", "nn", "onnx", "store"],
    ),
    ("http", &["config", "decode", "domain", "imaging", "inference", "nn", "service", "store"]),
];

#[test]
fn modules_use_only_the_layers_below_them() {
    let mut wrong = Vec::new();
    for (layer, allowed) in LAYERS {
        for file in sources(layer) {
            let text = fs::read_to_string(&file).expect("a source file reads");
            for used in used_modules(&text) {
                if used != *layer && !allowed.contains(&used.as_str()) {
                    wrong.push(format!("{} uses crate::{used}", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that are not in the table:\n{}", wrong.join("\n"));
}

/// An architecture is a word of the vocabulary, and what a family of networks says of it stands beside the
/// networks: that word is all that `domain` has of `nn`, and it brings no tensors.
#[test]
fn the_vocabulary_has_nothing_of_networks_but_the_word_of_an_architecture() {
    let allowed = "crate::nn::backbone::architecture::Architecture";
    let mut wrong = Vec::new();
    for file in sources("domain") {
        let text = fs::read_to_string(&file).expect("a source file reads");
        let found = text.lines().filter(|line| line.contains("crate::nn"));
        wrong.extend(found.filter(|line| !line.contains(allowed)).map(str::to_owned));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_module_of_the_library_is_in_the_table_or_at_the_top() {
    let top = BTreeSet::from(["cli", "serve", "worker"]);
    let library = fs::read_to_string(root().join("lib.rs")).expect("lib.rs reads");
    let unlisted: Vec<&str> = library
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'))
        .filter(|module| !top.contains(module) && !LAYERS.iter().any(|(layer, _)| layer == module))
        .collect();
    assert!(unlisted.is_empty(), "modules without a place: {unlisted:?}");
}

#[test]
fn an_upward_arrow_would_be_seen() {
    let text = "use crate::{domain::Split, http};\nlet x = crate::store::runs::claim();";

    assert_eq!(used_modules(text), BTreeSet::from(["domain", "http", "store"].map(str::to_owned)));
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn sources(layer: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        Some(root().join(format!("{layer}.rs"))).into_iter().filter(|path| path.exists()).collect();
    let mut folders = vec![root().join(layer)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found
}

/// The first path segment after every `crate::`, groups in braces included.
fn used_modules(text: &str) -> BTreeSet<String> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let word =
        |text: &str| text.trim_start().chars().take_while(|c| is_word(*c)).collect::<String>();
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code = code.collect::<Vec<_>>().join("\n");
    let mut used = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            None => drop(used.insert(word(rest))),
            Some(group) => used.extend(members(group).into_iter().map(word)),
        }
    }
    used.remove("");
    used
}

/// The comma-separated members of a group, nested groups skipped over.
fn members(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                found.push(&group[start..at]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                found.push(&group[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    found
}
