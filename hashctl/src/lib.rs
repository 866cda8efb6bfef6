//! The command line of hashcluster.
//!
//! From the outside in: [`cli`] parses arguments and maps to an exit status; `commands` are what it
//! can do. A command that hashes is a run of the `engine`: a lister thread finds entries (`input`,
//! `lists`), opener threads open files and send them through the crate `client`, and the main thread
//! takes results, brings them into input order and prints them (`output`).
//!
//! Invariants: memory is bounded by named limits, however many files there are; a digest is printed
//! only as the workers gave it for exactly that file; what has no digest is reported.

mod args;
pub mod cli;
mod commands;
mod config;
mod engine;
mod exit;
mod input;
mod lists;
mod output;
mod problem;
mod progress;
mod say;
mod signals;
mod size;

/// The fuzz target `manifest`: see `fuzz/README.md`.
#[cfg(fuzzing)]
pub fn fuzz_manifest(input: &[u8]) {
    lists::fuzz::manifest(input);
}
