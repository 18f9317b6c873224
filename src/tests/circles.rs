//! No circles: a file never depends, through any chain of `use`s and paths, on what depends on it.
//!
//! Names are followed to the file that defines them, through whatever hands them on. What a file needs
//! of another by a method alone is not seen: that takes types.

mod components;
mod edges;
mod source;
mod tokens;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use components::{circles, shortest};
use edges::{Edges, Files, edges};

#[test]
fn no_file_depends_on_what_depends_on_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Files::new();
    read(&root, "", &mut files);

    let found = told(&files);

    assert!(found.is_empty(), "{} circles between files:\n\n{}", found.len(), found.join("\n"));
}

#[test]
fn a_circle_through_the_parent_is_seen() {
    let files = crate_of(&[
        ("lib.rs", "mod head;"),
        ("head/mod.rs", "mod task; use task::Task; pub struct Sample(Task);"),
        ("head/task.rs", "use super::{Sample, Shape as Form}; pub struct Task(u8);"),
    ]);

    assert_eq!(
        told(&files),
        ["head/mod.rs -> head/task.rs: Task\nhead/task.rs -> head/mod.rs: Sample, Shape\n"]
    );
}

#[test]
fn a_circle_through_a_reexport_is_seen_between_the_files_that_define() {
    let files = crate_of(&[
        ("lib.rs", "pub mod nn; pub mod onnx;"),
        ("nn/mod.rs", "mod vit; mod gate; pub use vit::Vit; use gate::Gate;"),
        ("nn/vit.rs", "pub struct Vit; pub fn open() { crate::onnx::Graph::write() }"),
        ("nn/gate.rs", "use super::Vit; pub struct Gate;"),
        ("onnx.rs", "use crate::nn::{self}; pub struct Graph(nn::Vit);"),
    ]);

    assert_eq!(told(&files), ["nn/vit.rs -> onnx.rs: Graph\nonnx.rs -> nn/vit.rs: Vit\n"]);
}

#[test]
fn a_reexport_alone_is_no_circle_but_one_that_the_file_itself_names_is() {
    let task = "use super::Sample; pub struct Task;";
    let list = "mod task; pub(crate) use task::Task; pub struct Sample;";
    let alone = [("lib.rs", "mod head;"), ("head/mod.rs", list), ("head/task.rs", task)];
    let naming = format!("{list} struct Part(Task);");
    let named = [("lib.rs", "mod head;"), ("head/mod.rs", &naming), ("head/task.rs", task)];

    assert!(told(&crate_of(&alone)).is_empty());
    assert_eq!(told(&crate_of(&named)).len(), 1);
}

#[test]
fn what_only_tests_comments_and_strings_name_is_no_circle() {
    let tests = "mod b; use b::B; struct A(char); #[cfg(test)] mod tests { use super::b::f; }";
    let files = crate_of(&[
        ("lib.rs", "mod a; #[cfg(test)] mod c;"),
        ("a/mod.rs", tests),
        ("a/b.rs", "/* use super::A; /**/ */ #[cfg(test)] use super::A; pub struct B<'a>;"),
        ("c.rs", "// crate::a::A\nfn f() { r#\"\"super::A\"#; '\"'; \"\\\"crate::a::A\" }"),
    ]);

    let found = edges(&files);

    assert_eq!(pairs(&found), [("a/mod.rs", "a/b.rs")]);
}

#[test]
fn a_glob_is_followed_to_what_is_named_of_it() {
    let files = crate_of(&[
        ("lib.rs", "mod a; mod prelude;"),
        ("prelude.rs", "pub use crate::a::*; pub struct Other;"),
        ("a/mod.rs", "mod one; mod two; pub use one::One; pub use two::Two;"),
        ("a/one.rs", "use crate::prelude::*; pub struct One(Two);"),
        ("a/two.rs", "pub struct Two(super::One);"),
    ]);

    assert_eq!(told(&files), ["a/one.rs -> a/two.rs: Two\na/two.rs -> a/one.rs: One\n"]);
}

#[test]
fn a_path_through_an_imported_or_declared_module_is_an_edge_and_a_method_is_none() {
    let files = crate_of(&[
        ("lib.rs", "mod store; mod worker;"),
        ("store/mod.rs", "pub mod runs; pub fn claim() { runs::claim() }"),
        ("store/runs.rs", "pub fn claim() { Run { ..super::super::worker::run() } }"),
        ("worker.rs", "use crate::store::{self, runs as stored}; fn f() { x.store::claim(); }"),
    ]);

    assert_eq!(
        pairs(&edges(&files)),
        [("store/mod.rs", "store/runs.rs"), ("store/runs.rs", "worker.rs")]
    );
}

#[test]
fn a_function_is_followed_past_the_module_that_has_its_name() {
    let files = crate_of(&[
        ("lib.rs", "mod job; mod onnx;"),
        ("job.rs", "use crate::onnx::export; pub fn run() { export() }"),
        ("onnx/mod.rs", "mod export; pub use export::export;"),
        ("onnx/export.rs", "pub fn export() { crate::job::run() }"),
    ]);

    assert_eq!(told(&files), ["job.rs -> onnx/export.rs: export\nonnx/export.rs -> job.rs: run\n"]);
}

#[test]
fn of_many_entangled_files_the_shortest_circle_is_told() {
    let files = crate_of(&[
        ("lib.rs", "mod a; mod b; mod c;"),
        ("a.rs", "use crate::b::B; pub struct A;"),
        ("b.rs", "use crate::c::C; pub struct B;"),
        ("c.rs", "use crate::{a::A, b::B}; pub struct C;"),
    ]);

    let expected = "the shortest of 3 entangled files (a.rs, b.rs, c.rs):\n\
                    b.rs -> c.rs: C\nc.rs -> b.rs: B\n";
    assert_eq!(told(&files), [expected]);
}

/// Every circle, one line an edge.
fn told(files: &Files) -> Vec<String> {
    let edges = edges(files);
    circles(&edges).iter().map(|entangled| tell(entangled, &edges)).collect()
}

fn tell(entangled: &[&str], edges: &Edges) -> String {
    let circle = shortest(entangled, edges);
    let mut told = String::new();
    if circle.len() < entangled.len() {
        let names = entangled.join(", ");
        told = format!("the shortest of {} entangled files ({names}):\n", entangled.len());
    }
    for (at, from) in circle.iter().enumerate() {
        let to = circle[(at + 1) % circle.len()];
        let items: Vec<&str> = edges[*from][to].iter().map(String::as_str).collect();
        writeln!(told, "{from} -> {to}: {}", items.join(", ")).expect("a string takes any text");
    }
    told
}

fn read(folder: &Path, prefix: &str, files: &mut Files) {
    for entry in fs::read_dir(folder).expect("a folder of sources lists").flatten() {
        let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if path == "tests" {
            continue;
        }
        if entry.path().is_dir() {
            read(&entry.path(), &format!("{path}/"), files);
        } else if entry.path().extension().is_some_and(|extension| extension == "rs") {
            files.insert(path, fs::read_to_string(entry.path()).expect("a source file reads"));
        }
    }
}

fn crate_of(files: &[(&str, &str)]) -> Files {
    files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect()
}

fn pairs(edges: &Edges) -> Vec<(&str, &str)> {
    edges.iter().flat_map(|(from, to)| to.keys().map(move |to| (&**from, &**to))).collect()
}
