//! Messages: the bodies of frames.
//!
//! A connection starts with [`Hello`] and [`HelloReply`]; after that a client sends
//! [`ClientRequest`]s and is sent [`ClientReply`]s, a worker is sent [`WorkerRequest`]s and sends
//! [`WorkerReply`]s. The order of variants and fields is the wire format.
//!
//! Invariant: [`Message::check`] holds for every message that is sent or handed out.

mod audit;
mod client;
mod file;
mod hello;
mod job_source;
mod listing;
mod loss;
mod register;
mod sandbox;
mod schedules;
mod service;
mod share;
mod status;
mod work;
mod worker;

pub use audit::{AuditBaseline, AuditCounts, AuditFinding, AuditRow};
pub use client::{
    ClientReply, ClientRequest, DrainOutcome, Items, JobId, RejectReason, ReleaseOutcome, Run,
    Window,
};
pub use file::{ByteRange, FileItem, FileSource, Stamp, check_dataset};
pub use hello::{
    Backend, ClientIntro, Hello, HelloReply, MAGIC, Planes, Preamble, RefuseReason, Role,
    VERSION_MAX, VERSION_MIN, Versions, Welcome, WorkerIntro,
};
pub use job_source::{JobRoot, JobSource};
pub use listing::{ClaimEntry, ClaimsWork, DirEntry, EntryKind, ListOutcome, ListWork};
pub use loss::{LossCause, WorkerLoss};
pub use register::{EventRow, RuleRow};
pub use sandbox::{SandboxLayer, SandboxLayers};
pub use schedules::{
    ChangeCounts, DifferenceKind, DifferenceRow, RunOutcome, RunRow, ScheduleAct, ScheduleReply,
    ScheduleRequest, ScheduleRow, StepEnd, StepRow,
};
pub use service::{
    DeadItem, ItemOutcome, JobAct, JobFilter, JobKind, JobRow, JobSpec, JobState, ResultRow,
    ServiceRefusal, ServiceReply, ServiceRequest,
};
pub use share::NameShare;
pub use status::{
    AlgorithmSpeed, Counters, DrainStatus, JobStatus, JournalState, LimitStatus, QuarantineStatus,
    Status, WorkerHealth, WorkerStatus,
};
pub use work::{Failure, Failures, Piece};
pub use worker::{LeaseId, Work, WorkerReply, WorkerRequest};

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;

/// A type that travels as the body of one frame.
pub trait Message: Serialize + DeserializeOwned {
    /// Compares every field with its limit.
    ///
    /// # Errors
    /// The first field that breaks one.
    fn check(&self) -> Result<(), LimitExceeded>;

    /// The number of descriptors that ride on this message's frame.
    fn descriptors_len(&self) -> usize {
        0
    }
}

/// A field that breaks its limit, or two fields that contradict each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitExceeded {
    /// Name of the field.
    pub field: &'static str,
    /// Its value.
    pub value: u64,
    /// The most, or the only, value that is accepted.
    pub limit: u64,
}

impl fmt::Display for LimitExceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}, the limit is {}", self.field, self.value, self.limit)
    }
}

impl std::error::Error for LimitExceeded {}

fn at_most(field: &'static str, value: usize, limit: usize) -> Result<(), LimitExceeded> {
    if value <= limit {
        return Ok(());
    }
    Err(LimitExceeded { field, value: value as u64, limit: limit as u64 })
}

fn exactly(field: &'static str, value: u64, want: u64) -> Result<(), LimitExceeded> {
    if value == want {
        return Ok(());
    }
    Err(LimitExceeded { field, value, limit: want })
}

fn within(field: &'static str, value: usize, min: usize, max: usize) -> Result<(), LimitExceeded> {
    if value < min {
        return Err(LimitExceeded { field, value: value as u64, limit: min as u64 });
    }
    at_most(field, value, max)
}

fn sum_of(lens: &[u32]) -> u64 {
    lens.iter().map(|&len| u64::from(len)).sum()
}
