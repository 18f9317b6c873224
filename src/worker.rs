//! `lvmed worker`: claims runs, executes them, beats.
