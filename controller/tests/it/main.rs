//! The core against histories that nobody wrote by hand, and against tables.

mod datasets;
mod simulation;
mod tables;
