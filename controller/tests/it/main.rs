//! The core against histories that nobody wrote by hand, and against tables.

mod cross_check;
mod datasets;
mod simulation;
mod tables;
