//! The dependencies of files on files, each name followed to the file that defines it.

use std::collections::{BTreeMap, BTreeSet};

use super::source::Source;

/// The text of every file, under its path from `src`.
pub(super) type Files = BTreeMap<String, String>;

/// From a file to each file it depends on, and the items that it takes from there.
pub(super) type Edges = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// Steps after which a path is given up. One of more leads back to itself, as a `use` of another crate
/// by its name alone does.
const HOPS: u8 = 16;

pub(super) fn edges(files: &Files) -> Edges {
    let modules = Modules::of(files);
    let mut edges = Edges::new();
    for module in modules.0.keys() {
        for (target, item) in modules.needs(module) {
            if target != *module {
                let from = edges.entry(modules.0[module].file.clone()).or_default();
                from.entry(modules.0[&target].file.clone()).or_default().insert(item);
            }
        }
    }
    edges
}

struct Module {
    file: String,
    source: Source,
}

/// Every module under its path; the root of the crate under the empty one.
struct Modules(BTreeMap<String, Module>);

/// The place that a path leads to.
enum Target {
    Module(String),
    Item(String, String),
}

impl Modules {
    fn of(files: &Files) -> Self {
        let read = |(file, text): (&String, &String)| {
            let module = Module { file: file.clone(), source: Source::of(text) };
            (path_of(file), module)
        };
        // The program is a crate of its own, which only calls this one.
        Self(files.iter().filter(|(file, _)| *file != "main.rs").map(read).collect())
    }

    /// The items that a module takes, with the modules that define them. To import a module is
    /// not to depend on it yet: only a path through it says which file is meant. What is handed on
    /// or comes by a glob counts where the code names it.
    fn needs(&self, module: &str) -> Vec<(String, String)> {
        let source = &self.0[module].source;
        let imported = source.uses.iter().filter(|leaf| !leaf.handed_on);
        let imported = imported.map(|leaf| &leaf.path);
        let paths = imported.chain(&source.paths);
        let found = paths.filter_map(|path| match self.resolve(module, path, HOPS)? {
            Target::Module(_) => None,
            Target::Item(target, item) => Some((target, item)),
        });
        found.collect()
    }

    /// Follows a path as the code of a module writes it; nothing where it leads out of the crate.
    fn resolve(&self, module: &str, path: &[String], hops: u8) -> Option<Target> {
        let hops = hops.checked_sub(1)?;
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" => self.find("", rest, hops),
            "self" => self.find(module, rest, hops),
            name if name == "super" || self.knows(module, name, hops) => {
                self.find(module, path, hops)
            }
            _ => None,
        }
    }

    /// Follows a path from inside a module. A name that nothing shows there is taken for one of
    /// the module's own, made by a macro; a last name that is both a module's and an item's, for
    /// that of the item.
    fn find(&self, module: &str, path: &[String], hops: u8) -> Option<Target> {
        let hops = hops.checked_sub(1)?;
        let (name, rest) = match path.split_first() {
            Some((name, rest)) if name != "*" => (name, rest),
            _ => return Some(Target::Module(module.to_owned())),
        };
        if name == "super" {
            return self.find(parent(module), rest, hops);
        }
        let source = &self.0.get(module)?.source;
        let (is_own, import) = (source.defined.contains(name), source.import(name));
        let is_item = rest.is_empty() && (is_own || import.is_some());
        if let Some(child) = self.child(module, name).filter(|_| !is_item) {
            return self.find(&child, rest, hops);
        }
        match import {
            Some(import) if !is_own => self.resolve(module, &[&import.path, rest].concat(), hops),
            None if !is_own && let Some(target) = self.glob_with(module, name, hops) => {
                self.find(&target, path, hops)
            }
            _ => Some(Target::Item(module.to_owned(), name.clone())),
        }
    }

    fn knows(&self, module: &str, name: &str, hops: u8) -> bool {
        self.shows(module, name) || self.glob_with(module, name, hops).is_some()
    }

    /// Whether a module has a name without its globs.
    fn shows(&self, module: &str, name: &str) -> bool {
        let Some(Module { source, .. }) = self.0.get(module) else { return false };
        source.defined.contains(name)
            || source.import(name).is_some()
            || self.child(module, name).is_some()
    }

    /// The module that a glob of this one brings a name from.
    fn glob_with(&self, module: &str, name: &str, hops: u8) -> Option<String> {
        let hops = hops.checked_sub(1)?;
        let is_ours = |first: &String| {
            matches!(first.as_str(), "crate" | "self" | "super") || self.shows(module, first)
        };
        let globs = self.0.get(module)?.source.uses.iter().filter(|leaf| leaf.name.is_none());
        let mut targets = globs.filter(|glob| is_ours(&glob.path[0])).filter_map(|glob| match self
            .resolve(
            module, &glob.path, hops,
        )? {
            Target::Module(target) => Some(target),
            Target::Item(..) => None,
        });
        targets.find(|target| target != module && self.knows(target, name, hops))
    }

    fn child(&self, module: &str, name: &str) -> Option<String> {
        let declared = self.0.get(module)?.source.children.contains(name);
        let child = if module.is_empty() { name.to_owned() } else { format!("{module}::{name}") };
        (declared && self.0.contains_key(&child)).then_some(child)
    }
}

fn path_of(file: &str) -> String {
    let stem = file.strip_suffix(".rs").unwrap_or(file);
    let stem = stem.strip_suffix("/mod").unwrap_or(stem);
    if stem == "lib" { String::new() } else { stem.replace('/', "::") }
}

fn parent(module: &str) -> &str {
    module.rsplit_once("::").map_or("", |(parent, _)| parent)
}
