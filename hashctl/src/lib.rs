//! The command line of hashcluster, and the blocking client that it is made of.
//!
//! From the outside in: [`cli`] parses arguments and maps to an exit status; [`sum`], [`check`],
//! [`status`] and `release` are the commands; a command that hashes has a producer thread (`walk`, `manifest`,
//! `feed`) which opens files and sends them through [`client`], and the main thread (`run`), which
//! takes results, brings them into order (`order`) and writes them (`output`).
//!
//! Invariants: memory is bounded by named limits, however many files there are; a digest is printed
//! only as the workers gave it for exactly that file; what is not printed is said to be missing.

mod args;
pub mod check;
pub mod cli;
mod config;
mod datasets;
mod exit;
mod feed;
mod handover;
mod hex;
pub mod manifest;
mod open;
pub mod order;
pub mod output;
mod plane;
mod problem;
mod progress;
mod quote;
mod release;
mod run;
mod say;
mod signals;
mod size;
mod start;
pub mod status;
mod stream;
pub mod sum;
mod sys;
pub mod walk;
