//! Messages between a client and the controller.

use super::loss::check_losses;
use super::work::check_failures;
use super::worker::check_inline;
use super::{
    Failures, FileItem, FileSource, LimitExceeded, Message, Piece, ServiceReply, ServiceRequest,
    Status, WorkerLoss, at_most, within,
};
use crate::limits::{
    FRAME_MESSAGES_MAX, FRAME_NAMES_MAX, LOSSES_MAX, NAME_LEN_MAX, REASON_LEN_MAX,
};
use crate::{Algorithms, Blob, list};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A job; never used again after it, by any controller.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct JobId {
    /// The start of the controller that opened it, in seconds since 1970.
    pub epoch: u32,
    /// Its number among the jobs of that controller.
    pub number: u64,
}

impl JobId {
    /// The id that `text` is, as it is displayed.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let (epoch, number) = text.split_once('-')?;
        if !digits(epoch) || !digits(number) {
            return None;
        }
        Some(Self { epoch: epoch.parse().ok()?, number: number.parse().ok()? })
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.number)
    }
}

/// Bounds on what may be unresolved of a job: sent, and its result not yet received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Items.
    pub items: u32,
    /// Inline bytes, and bytes of paths.
    pub bytes: u64,
}

/// Neighbouring items: `first`, `first + 1`, … `first + len - 1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Index of the first.
    pub first: u64,
    /// Length in bytes.
    pub len: u32,
}

/// Neighbouring items of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Items {
    /// Files.
    Files {
        /// Where their bytes come from.
        source: FileSource,
        /// The files.
        #[serde(deserialize_with = "list::at_most::<_, _, FRAME_NAMES_MAX>")]
        files: Vec<FileItem>,
    },
    /// Messages that are in the frame.
    Inline {
        /// Length of each in bytes.
        #[serde(deserialize_with = "list::at_most::<_, _, FRAME_MESSAGES_MAX>")]
        lens: Vec<u32>,
        /// Their bytes, back to back.
        data: Blob,
    },
}

impl Items {
    /// The number of items.
    #[must_use]
    pub fn items_len(&self) -> usize {
        match self {
            Self::Files { files, .. } => files.len(),
            Self::Inline { lens, .. } => lens.len(),
        }
    }

    /// The number of descriptors that ride along.
    #[must_use]
    pub fn descriptors_len(&self) -> usize {
        match self {
            Self::Files { source, files } => source.descriptors_len(files.len()),
            Self::Inline { .. } => 0,
        }
    }

    pub(super) fn check(&self) -> Result<(), LimitExceeded> {
        match self {
            Self::Files { source, files } => source.check(files),
            Self::Inline { lens, data } => check_inline(lens, data),
        }
    }
}

/// A client's message. Items of a job are numbered by the client, from 0, without holes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClientRequest {
    /// Starts a job; answered by `Opened` or `Rejected`.
    Open {
        /// Comes back in the answer.
        tag: u32,
        /// The digests of each item, in this order.
        algorithms: Algorithms,
        /// One item per this many is hashed a second time, by another backend and on another worker
        /// where there is one; 0 for none.
        cross_check: u32,
        /// A file must be shown to have no writer before it is read, however old its stamp.
        strict_reads: bool,
    },
    /// Adds items to a job.
    Items {
        /// The job.
        job: JobId,
        /// Index of the first item.
        first: u64,
        /// The items.
        items: Items,
    },
    /// An item that is one step of a streamed hash.
    Piece {
        /// The job.
        job: JobId,
        /// Index of the item.
        index: u64,
        /// The step.
        piece: Piece,
    },
    /// There are no more items; answered by `Finished` after the last result.
    Finish {
        /// The job.
        job: JobId,
    },
    /// Drop the job; answered by `Cancelled`, after which no result of it comes.
    Cancel {
        /// The job.
        job: JobId,
    },
    /// Answered by `Status`.
    Status,
    /// Answered by `Ready` as soon as this many workers are ready, or when the time is over.
    WaitReady {
        /// Workers to wait for.
        workers: u32,
        /// Longest time to wait, in milliseconds.
        timeout_ms: u32,
    },
    /// Gives a worker work again that is in quarantine; answered by `Released`.
    Release {
        /// Its name.
        worker: String,
    },
    /// A request about durable jobs; answered by `Service`.
    Service {
        /// Comes back in the answer.
        tag: u32,
        /// The request.
        request: ServiceRequest,
    },
    /// Gives a worker no more work; what it has goes to others at the deadline. Answered by `Drained` once it
    /// holds no lease.
    Drain {
        /// Its name.
        worker: String,
        /// Longest time that its leases have, in milliseconds.
        deadline_ms: u32,
        /// The name stays drained when the controller restarts.
        lasts: bool,
    },
    /// Gives a worker work again that was drained; answered by `Drained`.
    Undrain {
        /// Its name.
        worker: String,
    },
}

/// A message to a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClientReply {
    /// A job is open.
    Opened {
        /// Tag of the `Open`.
        tag: u32,
        /// The job's id from here on.
        job: JobId,
        /// Bounds on what may be unresolved of it.
        window: Window,
        /// Workers that are ready now.
        workers: u32,
    },
    /// The job's window changes.
    Window {
        /// The job.
        job: JobId,
        /// Its new window.
        window: Window,
    },
    /// Items are resolved, each exactly once.
    Results {
        /// The job.
        job: JobId,
        /// The items, in the order of the outputs.
        #[serde(deserialize_with = "list::at_most::<_, _, FRAME_MESSAGES_MAX>")]
        runs: Vec<Run>,
        /// Outputs of the items that did not fail, back to back, all of one length: of each item the
        /// digests in the order of the job's algorithms.
        outputs: Blob,
        /// The items that failed, by position among the items of `runs`.
        #[serde(deserialize_with = "list::at_most::<_, _, FRAME_MESSAGES_MAX>")]
        failures: Failures,
    },
    /// Every item of a finished job is resolved; the job is closed.
    Finished {
        /// The job.
        job: JobId,
        /// Items resolved.
        items: u64,
        /// Those of them that failed.
        failed: u64,
    },
    /// The job was dropped; the job is closed.
    Cancelled {
        /// The job.
        job: JobId,
        /// Items that were sent and have no result.
        unresolved: u64,
    },
    /// The state of the cluster.
    Status(Box<Status>),
    /// Answers `WaitReady`.
    Ready {
        /// Workers that are ready now.
        workers: u32,
        /// As many are ready as were asked for.
        enough: bool,
    },
    /// A job was not opened; the connection stays open.
    Rejected {
        /// Tag of the `Open`.
        tag: u32,
        /// Why, for a program.
        reason: RejectReason,
        /// Why, for a person.
        text: String,
    },
    /// A worker returned a digest that others contradict. Its earlier results for this job were delivered
    /// unchecked and may be wrong.
    Suspect {
        /// The job.
        job: JobId,
        /// The worker's name.
        worker: String,
        /// Number of those results.
        items: u64,
    },
    /// Answers `Release`.
    Released {
        /// The worker's name.
        worker: String,
        /// The outcome.
        outcome: ReleaseOutcome,
    },
    /// Answers `Service`.
    Service {
        /// Tag of the request.
        tag: u32,
        /// The answer.
        reply: ServiceReply,
    },
    /// Answers `Drain` and `Undrain`.
    Drained {
        /// The worker's name.
        worker: String,
        /// The outcome.
        outcome: DrainOutcome,
    },
    /// Reasons why an item fails with [`Failure::WorkersLost`](super::Failure::WorkersLost). Its `Results` follow.
    Death {
        /// The job.
        job: JobId,
        /// Index of the item.
        index: u64,
        /// Every lease of it that was lost, in order.
        #[serde(deserialize_with = "list::at_most::<_, _, LOSSES_MAX>")]
        losses: Vec<WorkerLoss>,
    },
    /// A worker came forward with a long file, for those who show how far it is.
    Advanced {
        /// The job.
        job: JobId,
        /// Index of the item, which has no result yet.
        index: u64,
        /// Bytes hashed since the last such message; those that are hashed again count again.
        bytes: u64,
    },
}

/// The outcome of a `Drain` or an `Undrain`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DrainOutcome {
    /// The worker holds no lease, and gets none until it is undrained.
    Drained {
        /// Leases that were given to others at the deadline.
        passed_on: u32,
    },
    /// The worker is given work again, now or when it connects.
    Undrained,
    /// No worker of that name is drained.
    NotDraining,
    /// No worker of that name is connected.
    Unknown,
    /// As many names are drained as the controller keeps.
    TooMany,
    /// This client may not ask for it.
    Forbidden,
}

/// The outcome of a `Release`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReleaseOutcome {
    /// The worker is given work again, now or when it connects.
    Released,
    /// No worker of that name is in quarantine.
    NotQuarantined,
    /// This client may not ask for it.
    Forbidden,
}

/// Why a job was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RejectReason {
    /// Too many jobs are open, on this connection or altogether.
    TooManyJobs,
    /// The controller's policy does not let this client open jobs.
    Forbidden,
}

impl Message for ClientRequest {
    fn check(&self) -> Result<(), LimitExceeded> {
        match self {
            Self::Items { first, items, .. } => {
                items.check()?;
                check_indexes(*first, items.items_len())
            }
            Self::Piece { index, piece, .. } => {
                check_indexes(*index, 1)?;
                piece.check()
            }
            Self::Release { worker } | Self::Drain { worker, .. } | Self::Undrain { worker } => {
                within("worker", worker.len(), 1, NAME_LEN_MAX)
            }
            Self::Service { request, .. } => request.check(),
            Self::Open { .. }
            | Self::Finish { .. }
            | Self::Cancel { .. }
            | Self::Status
            | Self::WaitReady { .. } => Ok(()),
        }
    }

    fn descriptors_len(&self) -> usize {
        match self {
            Self::Items { items, .. } => items.descriptors_len(),
            Self::Service { request, .. } => request.descriptors_len(),
            Self::Open { .. }
            | Self::Piece { .. }
            | Self::Finish { .. }
            | Self::Cancel { .. }
            | Self::Status
            | Self::WaitReady { .. }
            | Self::Release { .. }
            | Self::Drain { .. }
            | Self::Undrain { .. } => 0,
        }
    }
}

impl Message for ClientReply {
    fn check(&self) -> Result<(), LimitExceeded> {
        match self {
            Self::Results { runs, failures, .. } => {
                at_most("runs", runs.len(), FRAME_MESSAGES_MAX)?;
                let items_len = runs.iter().map(|run| u64::from(run.len)).sum();
                at_most(
                    "items",
                    usize::try_from(items_len).unwrap_or(usize::MAX),
                    FRAME_MESSAGES_MAX,
                )?;
                check_failures(failures, items_len)
            }
            Self::Status(status) => status.check(),
            Self::Service { reply, .. } => reply.check(),
            Self::Rejected { text, .. } => at_most("text", text.len(), REASON_LEN_MAX),
            Self::Suspect { worker, .. }
            | Self::Released { worker, .. }
            | Self::Drained { worker, .. } => at_most("worker", worker.len(), NAME_LEN_MAX),
            Self::Death { losses, .. } => check_losses(losses),
            Self::Opened { .. }
            | Self::Window { .. }
            | Self::Finished { .. }
            | Self::Cancelled { .. }
            | Self::Ready { .. }
            | Self::Advanced { .. } => Ok(()),
        }
    }
}

pub(super) fn check_indexes(first: u64, items_len: usize) -> Result<(), LimitExceeded> {
    match first.checked_add(items_len as u64) {
        Some(_) => Ok(()),
        None => Err(LimitExceeded { field: "item index", value: first, limit: u64::MAX }),
    }
}
