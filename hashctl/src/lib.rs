//! The command line of hashcluster.
//!
//! From the outside in: [`cli`] parses arguments and maps to an exit status; `commands` are what it
//! can do, `compat` the programs that it can stand for. A command that hashes is a run of the `engine`: a lister thread finds entries (`input`,
//! `lists`), others hash them, and the main thread takes results, brings them into input order and
//! prints them (`output`). The others are threads that open, read and hash (`engine::embedded`), or with
//! a cluster opener threads that send open files through the crate `client`.
//!
//! Invariants: memory is bounded by named limits, however many files there are; a digest is printed
//! only for exactly that file, and only if it held still; what has no digest is reported.

mod args;
pub mod cli;
mod columns;
mod commands;
mod compat;
mod config;
mod engine;
mod examples;
mod exit;
mod input;
mod isolation;
mod json;
mod lists;
mod output;
mod problem;
mod progress;
mod replace;
mod say;
mod signals;
mod state;
mod trees;

/// The fuzz target `manifest`: see `fuzz/README.md`.
#[cfg(fuzzing)]
pub fn fuzz_manifest(input: &[u8]) {
    lists::fuzz::manifest(input);
}
