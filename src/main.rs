//! The `lvmed` program: parses the command line and calls the command.

use std::process::ExitCode;

fn main() -> ExitCode {
    lvmed::cli::main()
}
