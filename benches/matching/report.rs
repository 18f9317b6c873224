//! The table for people and the lines for comparing over time.

use std::collections::BTreeMap;

use crate::instances::Set;

/// Objectives this near to each other are the same.
const SAME: f64 = 1e-6;

/// One solve of one instance.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcome {
    pub(crate) seconds: f64,
    pub(crate) value: f64,
}

/// The solves of a set.
pub(crate) struct Report {
    set: &'static Set,
    ours: Vec<Outcome>,
    bounds: Vec<f64>,
    peers: BTreeMap<String, Vec<Outcome>>,
    /// Proven optima, where they were sought.
    pub(crate) optima: Vec<f64>,
}

impl Report {
    pub(crate) fn new(set: &'static Set) -> Self {
        Self {
            set,
            ours: Vec::new(),
            bounds: Vec::new(),
            peers: BTreeMap::new(),
            optima: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, ours: Outcome, bound: f64, peers: Vec<(String, Outcome)>) {
        self.ours.push(ours);
        self.bounds.push(bound);
        for (name, outcome) in peers {
            self.peers.entry(name).or_default().push(outcome);
        }
    }

    pub(crate) fn print(&self) {
        self.print_row("ours", &self.ours);
        for (name, outcomes) in &self.peers {
            self.print_row(name, outcomes);
        }
    }

    fn print_row(&self, name: &str, outcomes: &[Outcome]) {
        let optimal = self.optimal(outcomes);
        let optimal = optimal.map_or_else(|| "-".to_owned(), |share| format!("{share:.3}"));
        println!(
            "{:<28} {name:<6} {optimal:>8} {:>10.4} {:>9.4} {:>11.1}",
            self.set.name,
            mean(outcomes.iter().map(|outcome| outcome.value)),
            self.gap(outcomes),
            1e6 * seconds(outcomes),
        );
    }

    /// The share of instances whose proven optimum was found.
    fn optimal(&self, outcomes: &[Outcome]) -> Option<f64> {
        let found =
            |(outcome, optimum): (&Outcome, &f64)| f64::from(outcome.value >= optimum - SAME);
        (!self.optima.is_empty()).then(|| mean(outcomes.iter().zip(&self.optima).map(found)))
    }

    /// The mean distance to our bound.
    fn gap(&self, outcomes: &[Outcome]) -> f64 {
        mean(outcomes.iter().zip(&self.bounds).map(|(outcome, bound)| bound - outcome.value))
    }

    /// The share of instances that our bound proves without a tree.
    fn closed(&self) -> f64 {
        let closed = |(ours, bound): (&Outcome, &f64)| f64::from(ours.value >= bound - SAME);
        mean(self.ours.iter().zip(&self.bounds).map(closed))
    }

    fn line(&self) -> String {
        let number = |share: Option<f64>| {
            share.map_or_else(|| "null".to_owned(), |share| format!("{share:.4}"))
        };
        let peers: Vec<String> = self
            .peers
            .iter()
            .map(|(name, outcomes)| {
                let value = mean(outcomes.iter().map(|outcome| outcome.value));
                let optimal = number(self.optimal(outcomes));
                format!("\"{name}\":{{\"optimal\":{optimal},\"mean_objective\":{value:.4}}}")
            })
            .collect();
        format!(
            "{{\"bench\":\"match/quality/{}\",\"ours\":{},\"unit\":\"share optimal\",\"better\":\"higher\",\
             \"instances\":{},\"proven_by_bound\":{:.4},\"mean_gap_to_bound\":{:.4},\
             \"mean_objective\":{:.4},\"median_us\":{:.1},\"peers\":{{{}}}}}",
            self.set.name,
            number(self.optimal(&self.ours)),
            self.ours.len(),
            self.closed(),
            self.gap(&self.ours),
            mean(self.ours.iter().map(|outcome| outcome.value)),
            1e6 * seconds(&self.ours),
            peers.join(","),
        )
    }
}

pub(crate) fn print_header() {
    println!(
        "{:<28} {:<6} {:>8} {:>10} {:>9} {:>11}",
        "instances", "solver", "optimal", "objective", "to bound", "median us"
    );
}

/// A line for each set, and one for each peer: medians over the instances with 16 nodes and 5
/// neighbours that both solved.
pub(crate) fn lines(reports: &[Report]) -> Vec<String> {
    let mut lines: Vec<String> = reports.iter().map(Report::line).collect();
    let mut times: BTreeMap<&str, [Vec<f64>; 2]> = BTreeMap::new();
    let usual = |set: &Set| (set.nodes, set.neighbours) == (16, 5);
    for report in reports.iter().filter(|report| usual(report.set)) {
        for (name, outcomes) in &report.peers {
            let [ours, theirs] = times.entry(name).or_default();
            ours.extend(report.ours.iter().map(|outcome| outcome.seconds));
            theirs.extend(outcomes.iter().map(|outcome| outcome.seconds));
        }
    }
    for (name, [ours, theirs]) in times {
        let instances = ours.len();
        let [ours, theirs] = [ours, theirs].map(|seconds| 1e6 * median(seconds));
        lines.push(format!(
            "{{\"bench\":\"match/time/{name}\",\"ours\":{ours:.1},\"peer\":{theirs:.1},\"ratio\":{:.1},\
             \"unit\":\"us\",\"better\":\"lower\",\"nodes\":16,\"neighbours\":5,\"instances\":{instances}}}",
            theirs / ours
        ));
    }
    lines
}

fn seconds(outcomes: &[Outcome]) -> f64 {
    median(outcomes.iter().map(|outcome| outcome.seconds).collect())
}

pub(crate) fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}

fn mean(numbers: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = numbers.len() as f64;
    numbers.sum::<f64>() / count
}
