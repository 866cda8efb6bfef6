//! The state of the cluster as the controller sees it, for `hashctl status`.

use super::{Backend, JobId, LimitExceeded, SandboxLayers, at_most};
use crate::limits::{BACKENDS_MAX, NAME_LEN_MAX, REASON_LEN_MAX, STATUS_ROWS_MAX};
use crate::{Algorithm, Algorithms, list};
use serde::{Deserialize, Serialize};

/// A picture of the cluster at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the controller's software.
    pub software: String,
    /// Digest of the image it runs from, empty outside an image.
    pub image: String,
    /// Process id of the controller.
    pub pid: u32,
    /// Time since it started, in milliseconds.
    pub uptime_ms: u64,
    /// The layers of the controller's sandbox.
    pub sandbox: SandboxLayers,
    /// Connected workers, by name; at most [`STATUS_ROWS_MAX`].
    #[serde(deserialize_with = "list::at_most::<_, _, STATUS_ROWS_MAX>")]
    pub workers: Vec<WorkerStatus>,
    /// Connected workers that are not listed.
    pub workers_unlisted: u32,
    /// Open jobs, oldest first; at most [`STATUS_ROWS_MAX`].
    #[serde(deserialize_with = "list::at_most::<_, _, STATUS_ROWS_MAX>")]
    pub jobs: Vec<JobStatus>,
    /// Open jobs that are not listed.
    pub jobs_unlisted: u32,
    /// The bounds with their use.
    pub limits: LimitStatus,
    /// Event counts since the start.
    pub counters: Counters,
    /// Workers in quarantine, connected or not, by name; at most [`STATUS_ROWS_MAX`].
    #[serde(deserialize_with = "list::at_most::<_, _, STATUS_ROWS_MAX>")]
    pub quarantined: Vec<QuarantineStatus>,
    /// Workers in quarantine that are not listed.
    pub quarantined_unlisted: u32,
    /// Names that an operator drained, connected or not, in their order; at most [`STATUS_ROWS_MAX`].
    #[serde(deserialize_with = "list::at_most::<_, _, STATUS_ROWS_MAX>")]
    pub drained: Vec<DrainStatus>,
    /// Drained names that are not listed.
    pub drained_unlisted: u32,
    /// The journal's ability to write.
    pub journal: JournalState,
    /// Why it does not; empty otherwise.
    pub journal_reason: String,
}

/// A journal's ability to write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum JournalState {
    /// The controller keeps none.
    #[default]
    Absent,
    /// It writes.
    Writes,
    /// There is no space; it writes again when there is.
    Full,
    /// It is read-only; it writes again when it can.
    ReadOnly,
    /// It failed, and writes no more until the controller restarts.
    Failed,
}

impl JournalState {
    /// Its word in text and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Absent => "none",
            Self::Writes => "ok",
            Self::Full => "full",
            Self::ReadOnly => "read-only",
            Self::Failed => "failed",
        }
    }
}

/// Health of a worker, which decides if it is given work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkerHealth {
    /// It is given work.
    #[default]
    Ready,
    /// It gets no work until it reconnects: it missed too many deadlines.
    Suspended,
    /// It gets no work until it is released: it returned a wrong digest.
    Quarantined,
    /// It gets no work until it is undrained, or leaves.
    Draining,
}

/// One worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// Its name.
    pub name: String,
    /// Version of its software.
    pub software: String,
    /// Process id, as the worker sees it.
    pub pid: u32,
    /// Health, which decides if it is given work.
    pub health: WorkerHealth,
    /// Hashing threads.
    pub threads: u16,
    /// The backend of each algorithm.
    #[serde(deserialize_with = "list::at_most::<_, _, BACKENDS_MAX>")]
    pub backends: Vec<Backend>,
    /// Batches that it is ready for.
    pub credits: u32,
    /// Batches that it holds.
    pub leases: u32,
    /// Time since it connected, in milliseconds.
    pub uptime_ms: u64,
    /// Items resolved since it connected.
    pub items: u64,
    /// Bytes hashed since it connected.
    pub bytes: u64,
    /// Items per second, over the last seconds.
    pub items_per_s: u64,
    /// Bytes per second, over the last seconds.
    pub bytes_per_s: u64,
    /// Leases lost by any worker of this name: to a lost connection or a deadline.
    pub leases_lost: u64,
    /// The way it reads what is not in memory.
    pub reading: String,
    /// The layers of its sandbox.
    pub sandbox: SandboxLayers,
    /// Digest of the image that it runs from, empty outside an image.
    pub image: String,
    /// Name of its host; empty if it does not know.
    pub host: String,
    /// Its processor; empty if it does not know.
    pub cpu: String,
    /// The speed of one of its threads by algorithm, of those that it has worked with.
    #[serde(deserialize_with = "list::at_most::<_, _, BACKENDS_MAX>")]
    pub speeds: Vec<AlgorithmSpeed>,
}

/// The speed of one thread, reading included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlgorithmSpeed {
    /// The algorithm.
    pub algorithm: Algorithm,
    /// Bytes per second.
    pub bytes_per_s: u64,
}

/// One worker in quarantine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantineStatus {
    /// Its name.
    pub worker: String,
    /// The reason, for a person.
    pub reason: String,
    /// Time since then, in milliseconds.
    pub age_ms: u64,
    /// The worker is connected.
    pub connected: bool,
}

/// One name of a worker that an operator drained.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainStatus {
    /// The name.
    pub worker: String,
    /// The principal that drained it.
    pub by: String,
    /// Time since then, in milliseconds.
    pub age_ms: u64,
    /// Time until its leases go to others, in milliseconds.
    pub left_ms: u64,
    /// The worker is connected.
    pub connected: bool,
}

/// One open job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobStatus {
    /// Its id.
    pub id: JobId,
    /// The uid that opened it, or [`JobStatus::NO_UID`].
    pub uid: u32,
    /// Process id of the client, 0 if unknown.
    pub pid: u32,
    /// The algorithms that it computes.
    pub algorithms: Algorithms,
    /// Time since it was opened, in milliseconds.
    pub age_ms: u64,
    /// Items received.
    pub items: u64,
    /// Items resolved.
    pub resolved: u64,
    /// Items resolved without a digest.
    pub failed: u64,
    /// Batches that workers hold.
    pub leases: u32,
    /// The client has announced the end of the items.
    pub finished: bool,
    /// Bytes that were hashed for it, once per algorithm set.
    pub bytes: u64,
    /// Of a durable job the id by which it is known: this is the part of it that runs now.
    pub durable: Option<JobId>,
}

impl JobStatus {
    /// The id by which users know it.
    #[must_use]
    pub fn known_id(&self) -> JobId {
        self.durable.unwrap_or(self.id)
    }

    /// The `uid` of a job that was opened over vsock, where nobody has one.
    pub const NO_UID: u32 = u32::MAX;

    /// The uid that opened it, if it was opened on a Unix socket.
    #[must_use]
    pub fn uid(&self) -> Option<u32> {
        (self.uid != Self::NO_UID).then_some(self.uid)
    }
}

/// The bounds of the controller with their use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitStatus {
    /// Client connections.
    pub clients: u32,
    /// Most client connections.
    pub clients_max: u32,
    /// Most worker connections.
    pub workers_max: u32,
    /// Most open jobs.
    pub jobs_max: u32,
    /// Unresolved items.
    pub items: u64,
    /// Most unresolved items.
    pub items_max: u64,
    /// Unresolved inline bytes.
    pub bytes: u64,
    /// Most unresolved inline bytes.
    pub bytes_max: u64,
}

/// Event counts since the controller started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Jobs opened.
    pub jobs: u64,
    /// Jobs cancelled, or dropped because their client left.
    pub jobs_cancelled: u64,
    /// Items resolved.
    pub items: u64,
    /// Items resolved without a digest.
    pub items_failed: u64,
    /// Bytes hashed.
    pub bytes: u64,
    /// Batches leased.
    pub leases: u64,
    /// Leases lost to a lost connection or a deadline.
    pub leases_lost: u64,
    /// Answers dropped because their lease was revoked or given to another worker.
    pub answers_fenced: u64,
    /// Peers refused in the handshake.
    pub peers_refused: u64,
    /// Peers closed for breaking the protocol.
    pub peers_faulty: u64,
    /// Workers quarantined.
    pub workers_quarantined: u64,
    /// Items that were cross-checked.
    pub items_checked: u64,
    /// Items of those whose digests differed.
    pub items_contradicted: u64,
}

impl Status {
    pub(super) fn check(&self) -> Result<(), LimitExceeded> {
        at_most("software", self.software.len(), NAME_LEN_MAX)?;
        at_most("image", self.image.len(), NAME_LEN_MAX)?;
        at_most("sandbox", self.sandbox.0.into(), SandboxLayers::FULL.0.into())?;
        at_most("workers", self.workers.len(), STATUS_ROWS_MAX)?;
        at_most("jobs", self.jobs.len(), STATUS_ROWS_MAX)?;
        at_most("quarantined", self.quarantined.len(), STATUS_ROWS_MAX)?;
        at_most("drained", self.drained.len(), STATUS_ROWS_MAX)?;
        at_most("journal reason", self.journal_reason.len(), REASON_LEN_MAX)?;
        self.quarantined.iter().try_for_each(|row| {
            at_most("worker", row.worker.len(), NAME_LEN_MAX)?;
            at_most("reason", row.reason.len(), REASON_LEN_MAX)
        })?;
        self.drained.iter().try_for_each(|row| {
            at_most("worker", row.worker.len(), NAME_LEN_MAX)?;
            at_most("drained by", row.by.len(), NAME_LEN_MAX)
        })?;
        self.workers.iter().try_for_each(|worker| {
            at_most("name", worker.name.len(), NAME_LEN_MAX)?;
            at_most("software", worker.software.len(), NAME_LEN_MAX)?;
            at_most("reading", worker.reading.len(), NAME_LEN_MAX)?;
            at_most("sandbox", worker.sandbox.0.into(), SandboxLayers::FULL.0.into())?;
            at_most("image", worker.image.len(), NAME_LEN_MAX)?;
            at_most("host", worker.host.len(), NAME_LEN_MAX)?;
            at_most("cpu", worker.cpu.len(), NAME_LEN_MAX)?;
            at_most("speeds", worker.speeds.len(), BACKENDS_MAX)?;
            at_most("backends", worker.backends.len(), BACKENDS_MAX)?;
            worker
                .backends
                .iter()
                .try_for_each(|b| at_most("backend", b.backend.len(), NAME_LEN_MAX))
        })
    }
}
