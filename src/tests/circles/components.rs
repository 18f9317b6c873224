//! Circles in a graph: its strongly connected components, and the shortest circle within one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::edges::Edges;

/// The sets of files that reach each other, by R. Tarjan, "Depth-first search and linear graph
/// algorithms", SIAM J. Comput. 1 (1972).
pub(super) fn circles(edges: &Edges) -> Vec<Vec<&str>> {
    let mut search = Search::of(edges);
    for file in edges.keys() {
        if !search.number.contains_key(file.as_str()) {
            search.visit(file);
        }
    }
    search.found.sort();
    search.found
}

struct Search<'a> {
    edges: &'a Edges,
    /// In which order files were reached.
    number: BTreeMap<&'a str, usize>,
    /// Files whose component is not complete.
    open: Vec<&'a str>,
    found: Vec<Vec<&'a str>>,
}

impl<'a> Search<'a> {
    fn of(edges: &'a Edges) -> Self {
        Self { edges, number: BTreeMap::new(), open: Vec::new(), found: Vec::new() }
    }

    /// Returns the lowest number that is reached from a file among those still open.
    fn visit(&mut self, file: &'a str) -> usize {
        let own = self.number.len();
        self.number.insert(file, own);
        self.open.push(file);
        let mut lowest = own;
        for next in next(self.edges, file) {
            match self.number.get(next) {
                None => lowest = lowest.min(self.visit(next)),
                Some(number) if self.open.contains(&next) => lowest = lowest.min(*number),
                Some(_) => {}
            }
        }
        if lowest == own {
            self.close(file);
        }
        lowest
    }

    /// Takes the component of a file, which is all that was opened since.
    fn close(&mut self, file: &str) {
        let start = self.open.iter().position(|open| *open == file).expect("the file was opened");
        let mut component = self.open.split_off(start);
        if component.len() > 1 {
            component.sort_unstable();
            self.found.push(component);
        }
    }
}

/// The shortest circle through any of some files that reach each other.
pub(super) fn shortest<'a>(files: &[&'a str], edges: &'a Edges) -> Vec<&'a str> {
    let circles = files.iter().filter_map(|file| shortest_through(file, edges));
    circles.min_by_key(Vec::len).expect("every file of a component is on a circle")
}

/// Searches in breadth from a file until it is met again.
fn shortest_through<'a>(file: &'a str, edges: &'a Edges) -> Option<Vec<&'a str>> {
    let mut seen = BTreeSet::new();
    let mut ways = VecDeque::from([vec![file]]);
    while let Some(way) = ways.pop_front() {
        for next in next(edges, way[way.len() - 1]) {
            if next == file {
                return Some(way);
            }
            if seen.insert(next) {
                ways.push_back([&*way, &[next]].concat());
            }
        }
    }
    None
}

fn next<'a>(edges: &'a Edges, file: &str) -> impl Iterator<Item = &'a str> {
    edges.get(file).into_iter().flat_map(|targets| targets.keys().map(String::as_str))
}
