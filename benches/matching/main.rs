//! Matching solvers against public heuristics: quality and time on the same instances, in turn, each
//! on one thread; then the share that matching has of a pretraining step.

#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

mod instances;
mod overhead;
mod peer;
mod report;

use std::time::Instant;

use instances::{Instance, SETS, Set};
use lvmed::matching::{Problem, Solution, Solver, Workspace, exact};
use peer::Peer;
use rayon::prelude::*;
use report::{Outcome, Report};

/// Solves of one instance by us, whose median is its time.
const REPEATS: usize = 5;
/// Unmeasured instances of each set, whose code and memory are then warm.
const WARM_UP: u64 = 2;

fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let python = std::env::var("LVMED_BENCH_PYTHON").map_err(
        |_| "LVMED_BENCH_PYTHON must name a Python with pygmtools; use `make bench-match`",
    )?;
    let mut peer = Peer::start(&python)?;
    let mut reports = Vec::new();
    report::print_header();
    for set in
        SETS.iter().filter(|set| wanted.as_ref().is_none_or(|wanted| set.name.contains(wanted)))
    {
        let report = measure(set, &mut peer)?;
        report.print();
        reports.push(report);
    }
    let mut lines = report::lines(&reports);
    if wanted.is_none_or(|wanted| overhead::NAME.contains(wanted.as_str())) {
        lines.extend(overhead::measure()?);
    }
    for line in lines {
        println!("{line}");
    }
    Ok(())
}

/// All instances of a set, by us and by each peer in turn; then the proofs, which no time is
/// taken of.
fn measure(
    set: &'static Set,
    peer: &mut Peer,
) -> Result<Report, Box<dyn std::error::Error + Send + Sync>> {
    let mut workspace = Workspace::default();
    let mut report = Report::new(set);
    let mut solved = Vec::new();
    for seed in 0..set.count + WARM_UP {
        let instance = Instance::generate(set, seed);
        let problem = instance.problem();
        let (seconds, solution) = ours(&problem, &mut workspace);
        let mut others = Vec::new();
        for solver in peer.load(&instance)? {
            let answer = peer.solve(&solver)?;
            let value = problem.value(&answer.partners);
            others.push((solver, Outcome { seconds: answer.seconds, value }));
        }
        if seed >= WARM_UP {
            report.add(Outcome { seconds, value: solution.value }, solution.bound, others);
            solved.push(instance);
        }
    }
    if set.proven {
        report.optima =
            solved.par_iter().map(|instance| exact(&instance.problem()).value).collect();
    }
    Ok(report)
}

fn ours(problem: &Problem<'_>, workspace: &mut Workspace) -> (f64, Solution) {
    let mut solution = Solution::default();
    let solver = Solver::default();
    let times = (0..REPEATS).map(|_| {
        let started = Instant::now();
        solver.solve(problem, workspace, &mut solution);
        started.elapsed().as_secs_f64()
    });
    let times = times.collect();
    (report::median(times), solution)
}
