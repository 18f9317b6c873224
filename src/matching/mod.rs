//! Second-order graph matching (LVM-Med, section 3): graphs of images, affinities, solvers, and the
//! gradient through a solver. Knows no files, database or HTTP.

pub mod affinity;
mod assignment;
pub mod black_box;
mod exact;
mod graph;
pub mod hamming;
pub mod message;
pub mod noise;
mod outcome;
mod problem;
mod setting;
mod solver;

pub use assignment::{Assignment, Rows};
pub use exact::exact;
pub use graph::{Graphs, cut};
pub use outcome::{Backward, Outcome};
pub use problem::{ALONE, Problem, Solution};
pub use setting::{Convolution, DegreeNorm, Hamming, Local, Mode};
pub use solver::{Solver, Workspace};
