//! Second-order graph matching (LVM-Med, section 3): graphs of images, affinities, solvers, and the
//! gradient through a solver. Knows no files, database or HTTP.

mod assignment;
mod problem;
mod solver;

pub use assignment::{Assignment, Rows};
pub use problem::{ALONE, Problem, Solution};
pub use solver::{Solver, Workspace};
