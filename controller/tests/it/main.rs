//! The core against histories that nobody wrote by hand, and against tables.

mod cross_check;
mod datasets;
mod deaths;
mod denied;
mod drains;
mod durable;
mod fuzz;
mod hung;
mod isolation;
mod jobs;
mod journal;
mod pages;
mod played;
mod progress;
mod quarantine;
mod room;
mod schedules;
mod simulation;
mod tables;
mod tally;
mod targets;
