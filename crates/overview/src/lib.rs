//! A cluster's [`Status`](ipc_proto::message::Status) for people and programs: the same in `hashctl status`,
//! `hashctl top` and the controller's pages.
//!
//! [`status_json`] is one status for programs, [`JobObject`] one durable job. A [`StatusHistory`] takes one status after the other and has
//! what no single one tells: how rates develop, when a job ends, and what happened in between.
//!
//! Invariants: no I/O, no clock; memory is bounded by named limits; the words of peers are shown without
//! what would move a terminal.

mod dead;
mod event;
mod finding;
mod history;
mod job;
mod json;
mod name;
mod schedule;
mod text;

pub use dead::{DeadObject, LossObject};
pub use event::{ClusterEvent, EventSeverity, events_between};
pub use finding::{FindingObject, errno_text, escape, failure_text, needs_escape};
pub use history::{EVENTS_MAX, RATES_MAX, StatusHistory};
pub use job::{JobObject, kind_name};
pub use json::{
    STATUS_VERSION, health, instruction_sets, status_json, worker_json, worker_objects,
};
pub use name::JsonName;
pub use schedule::{DifferenceCounts, RunObject, ScheduleObject};
pub use text::{age, bytes, one_line, plain_lines};
