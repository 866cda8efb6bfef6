//! Schedules: a YAML file becomes a checked [`Schedules`], and each [`Schedule`] knows when it is due.
//!
//! [`parse`] reads a whole file and reports every error with its line and column. A schedule has a
//! [`Trigger`] and a graph of [`ScheduledTask`]s: groups are flattened into [`Step`]s, so that an executor sees
//! one directed graph without cycles. [`Schedule::to_json`] writes one schedule in a normal form, which
//! [`parse`] reads again to the same value: that is how it is stored.
//!
//! Invariants:
//! - no I/O and no clock: time is seconds since 1970 in the caller's hands, time zones are compiled in;
//! - nothing in a file makes memory or time grow faster than its length: aliases are refused, depth,
//!   tasks and lengths are limited, and substitution is bounded;
//! - nothing is evaluated: parameters are replaced in values, and no shell sees them.
//!
//! Two runs are compared by [`Differences`], whose words and rules are those of `hashctl audit`: [`Cause`] and [`moves`].
//!
//! Not here: running anything (the controller), reading files (hashctl).

mod calendar;
mod difference;
mod error;
mod fields;
mod graph;
mod keys;
mod model;
pub mod moves;
mod read;
mod schema;
mod template;
mod values;
mod write;
mod yaml;

pub use calendar::{Trigger, Zone, instant, local_text, utc_text};
pub use difference::{
    Cause, Differences, FileChange, FileDifference, MOVES_MAX, RunFile, RunSide, SizeAndTime,
    Unordered, walk_order,
};
pub use error::{LineColumn, ScheduleError, ScheduleErrors};
pub use model::{
    Backoff, Missed, Notification, Occasion, OnFailure, Overlap, Recipient, Schedule,
    ScheduledTask, Schedules, Step, TaskKind,
};
pub use read::parse;
pub use schema::schema;
pub use template::{Builtins, Template};
pub use values::{Daily, duration_text, rate, rate_text};

/// Longest file, in bytes.
pub const FILE_LEN_MAX: usize = 4 << 20;

/// Most tasks in a file.
pub const TASKS_MAX: usize = 10_000;

/// Most schedules in a file.
pub const SCHEDULES_MAX: usize = 10_000;

/// Deepest nesting of maps and lists in a file.
pub const DEPTH_MAX: usize = 32;

/// Longest name of a schedule, task, parameter or label, in bytes.
pub const NAME_LEN_MAX: usize = 64;

/// Longest single value, before and after parameters are replaced, in bytes.
pub const VALUE_LEN_MAX: usize = 4096;

/// Most entries of any other list or map: labels, parameters, notifications, windows.
pub const ENTRIES_MAX: usize = 64;
