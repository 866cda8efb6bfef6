//! The core against histories that nobody wrote by hand, and against tables.

mod datasets;
mod progress;
mod simulation;
mod tables;
