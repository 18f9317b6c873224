//! The public heuristics, in a Python process of their own on one thread.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use crate::instances::Instance;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The answer of one of them.
pub(crate) struct Answer {
    pub(crate) seconds: f64,
    pub(crate) partners: Vec<u32>,
}

/// The process; one request a line, one answer a line.
pub(crate) struct Peer {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Peer {
    pub(crate) fn start(python: &str) -> Result<Self, Failure> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peers/matching.py");
        let mut command = Command::new(python);
        command.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped());
        for threads in ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"] {
            command.env(threads, "1");
        }
        let mut child = command.spawn()?;
        let input = child.stdin.take().ok_or("no way in")?;
        let output = BufReader::new(child.stdout.take().ok_or("no way out")?);
        Ok(Self { child, input, output })
    }

    /// Hands an instance over; the solvers that it suits.
    pub(crate) fn load(&mut self, instance: &Instance) -> Result<Vec<String>, Failure> {
        let problem = instance.problem();
        let answer = self.ask(&json!({
            "nodes": problem.sources,
            "node_affinities": instance.node_affinities,
            "source_edges": instance.source_edges,
            "target_edges": instance.target_edges,
            "edge_affinities": instance.edge_affinities,
            "weights": instance.weights,
        }))?;
        Ok(serde_json::from_value(answer)?)
    }

    /// Solves the instance that was handed over.
    pub(crate) fn solve(&mut self, solver: &str) -> Result<Answer, Failure> {
        let answer = self.ask(&json!({"solve": solver}))?;
        let seconds = answer["seconds"].as_f64().ok_or("no seconds")?;
        Ok(Answer { seconds, partners: serde_json::from_value(answer["partners"].clone())? })
    }

    fn ask(&mut self, request: &Value) -> Result<Value, Failure> {
        writeln!(self.input, "{request}")?;
        self.input.flush()?;
        let mut answer = String::new();
        self.output.read_line(&mut answer)?;
        serde_json::from_str(&answer).map_err(|_| format!("the peer answered {answer:?}").into())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
