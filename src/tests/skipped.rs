//! Tests that cannot run here: they pass, and are counted by whoever runs them all.

use std::io::Write;

/// The needs that a test may want for. `scripts/test.sh` knows how to tell whether a machine has it,
/// and fails where it has.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Need {
    /// The folder that `LVMED_TEST_DATA` names.
    TestData,
    /// Chromium with its driver.
    Browser,
    /// The right to mount a file system.
    Mount,
}

impl Need {
    fn word(self) -> &'static str {
        match self {
            Self::TestData => "test-data",
            Self::Browser => "browser",
            Self::Mount => "mount",
        }
    }
}

/// Says that the test that runs in this thread is skipped, and why: on standard error and, where
/// `LVMED_SKIPPED_TESTS` names a file, as a line of it.
#[expect(clippy::print_stderr, reason = "a person who runs the tests reads it")]
pub(crate) fn skip(need: Need, reason: &str) {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("a test");
    let reason = reason.split_whitespace().collect::<Vec<_>>().join(" ");
    eprintln!("skipped: {reason}");
    let Some(file) = std::env::var_os("LVMED_SKIPPED_TESTS") else { return };
    let line = format!("{}\t{name}\t{reason}\n", need.word());
    let file = std::fs::OpenOptions::new().append(true).create(true).open(file);
    // In one write, as other tests append at the same time.
    file.and_then(|mut file| file.write_all(line.as_bytes())).expect("the line is written");
}
