//! The real binary against a controller that the test plays.
#![expect(clippy::unwrap_used, reason = "in a test it is an assertion")]

mod audit;
mod b3sum;
mod check;
mod compare;
mod documents;
mod dups;
mod embedded;
mod engine;
mod fake;
mod interrupt;
mod json;
mod lists;
mod missing;
mod names;
mod openers;
mod oracle;
mod program;
mod progress;
mod schedule;
mod selected;
mod status;
mod stdio;
mod streams;
mod sum;
mod sum_options;
mod top;
mod trees;
mod update;
mod vsock;
mod window;
