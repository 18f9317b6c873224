//! Solving allocates nothing once a workspace has seen a problem of that size, and reading a DICOM file
//! takes no more than a small multiple of it.

use allocation_counter::measure;
use lvmed::config::Limits;
use lvmed::matching::Mode;
use lvmed::matching::{Problem, Solution, Solver, Workspace};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

#[path = "raw_dicom.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod raw_dicom;

use raw_dicom::{Coding, Shape, file};

const NODES: usize = 16;
const NEIGHBOURS: usize = 5;

/// Affinities of a pair of graphs whose nodes have an edge to the `NEIGHBOURS` that follow, wherever
/// the nodes stand.
struct Instance {
    nodes: Vec<f32>,
    edges: Vec<f32>,
    source_edges: Vec<(u32, u32)>,
    target_edges: Vec<(u32, u32)>,
}

impl Instance {
    fn random(seed: u64) -> Self {
        let mut generator = StdRng::seed_from_u64(seed);
        let mut draw = |count: usize| -> Vec<f32> {
            (0..count).map(|_| generator.random_range(-1.0..1.0)).collect()
        };
        let (nodes, edges) = (draw(NODES * NODES), draw((NODES * NEIGHBOURS).pow(2)));
        let ring = |stride: usize| -> Vec<(u32, u32)> {
            let to = |i: usize, step: usize| ((i + stride * step) % NODES) as u32;
            (0..NODES)
                .flat_map(|i| (1..=NEIGHBOURS).map(move |step| (i as u32, to(i, step))))
                .collect()
        };
        // Steps of 3 visit all sixteen nodes, too.
        Self { nodes, edges, source_edges: ring(1), target_edges: ring(3) }
    }

    fn problem(&self, mode: Mode) -> Problem<'_> {
        Problem {
            sources: NODES,
            targets: NODES,
            nodes: &self.nodes,
            source_edges: &self.source_edges,
            target_edges: &self.target_edges,
            edges: &self.edges,
            mode,
        }
    }
}

#[test]
fn a_warm_solver_allocates_nothing() {
    let instances: Vec<Instance> = (0..5).map(Instance::random).collect();
    let (mut workspace, mut solution) = (Workspace::default(), Solution::default());
    for (solver, mode) in [
        (Solver::default(), Mode::Bijection),
        (Solver::default(), Mode::Partial),
        (Solver::first_order(), Mode::Bijection),
    ] {
        let mut solve = |instance: &Instance| {
            solver.solve(&instance.problem(mode), &mut workspace, &mut solution);
        };
        let cold = measure(|| solve(&instances[0]));

        let warm = measure(|| instances[1..].iter().for_each(&mut solve));

        assert_eq!(warm.count_total, 0, "{solver:?} {mode:?} {warm:?}");
        // The counter counts.
        assert!(mode == Mode::Partial || solver == Solver::first_order() || cold.count_total > 0);
    }
}

/// A line of `/proc/self/status`, in bytes.
fn memory(line: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let found = status.lines().find_map(|text| text.strip_prefix(line))?;
    found.trim_matches(|c: char| !c.is_ascii_digit()).parse::<u64>().ok().map(|kib| kib << 10)
}

/// The most memory that the process had more than before while `work` was done. `None` where Linux
/// does not say.
fn peak(work: impl FnOnce()) -> Option<u64> {
    // PROC_PID_CLEAR_REFS(5): 5 sets the peak to what is there now.
    std::fs::write("/proc/self/clear_refs", "5").ok()?;
    let before = memory("VmRSS:")?;
    work();
    Some(memory("VmHWM:")?.saturating_sub(before))
}

#[test]
fn reading_a_dicom_file_takes_a_small_multiple_of_it() {
    let coding = Coding::Explicit;
    let limits = Limits::default();
    let shape = Shape { columns: 512, rows: 512, samples: 1, allocated: 16, stored: 12 };
    let words: Vec<u16> = (0..64 * 512 * 512).map(|at| (at % 4096) as u16).collect();
    let large = file(
        coding.syntax(),
        &[
            coding.text((0x28, 0x08), "IS", "64"),
            shape.elements(coding, "MONOCHROME2"),
            coding.words((0x7FE0, 0x10), "OW", &words),
        ]
        .concat(),
    );
    drop(words);
    let small = Shape { columns: 2, rows: 1, ..shape };
    let claims = |element: &[u8]| {
        let pixels = coding.words((0x7FE0, 0x10), "OW", &[1, 2]);
        let described = small.elements(coding, "MONOCHROME2");
        file(coding.syntax(), &[element, &described, &pixels].concat())
    };
    let items = coding.element((0xFFFE, 0xE000), "", 0, &[]).repeat(90_000);
    let files = [
        large,
        claims(b"\x09\x00\x10\x00ZZ\0\0\xF0\xFF\xFF\xFFAAAA"),
        claims(b"\x09\x00\x10\x00ZZ\x08\0\xF0\xFF\xFF\xFFAAAA"),
        claims(b"\x08\x00\x40\x11UN\0\0\xFF\xFF\xFF\xFF\xFE\xFF\x00\xE0\xF0\xFF\xFF\xFF"),
        claims(&coding.element((0x28, 0x3010), "SQ", items.len() as u32, &items)),
        claims(&coding.element((0x08, 0x1140), "SQ", u32::MAX, &[]).repeat(1000)),
    ];

    for (number, bytes) in files.iter().enumerate() {
        let Some(more) = peak(|| drop(lvmed::imaging::take_in(bytes, &limits))) else { return };

        // What is stored, one frame, and what any reading takes.
        let allowed = bytes.len() as u64 * 3 / 2 + (48 << 20);
        assert!(more < allowed, "file {number} of {} bytes took {more}", bytes.len());
    }
}
