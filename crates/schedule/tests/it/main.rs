//! Files of schedules: what is accepted, what is refused and where, and when schedules are due.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod difference;
mod due;
mod files;
mod fuzz;
mod limits;
mod published;
mod targets;
