//! The core against histories that nobody wrote by hand, and against tables.

mod simulation;
mod tables;
