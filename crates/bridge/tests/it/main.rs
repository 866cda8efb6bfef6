#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]
//! Tests of the roles around a model of a broker, and of the program with a real one.

mod hostile;
mod items;
mod program;
mod rights;
mod simulation;
