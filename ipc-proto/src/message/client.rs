//! What passes between a client and the controller.

use super::named::check_names;
use super::work::check_failures;
use super::worker::check_messages;
use super::{Failures, LimitExceeded, Message, Named, Piece, Stamp, Status, at_most, within};
use crate::limits::{
    FRAME_DESCRIPTORS_MAX, FRAME_MESSAGES_MAX, FRAME_NAMES_MAX, NAME_LEN_MAX, REASON_LEN_MAX,
    WEIGHT_MAX,
};
use crate::{Algorithm, Blob, list};
use serde::{Deserialize, Serialize};

/// A job of one connection; the client chooses it and may use it again after the job's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JobId(pub u32);

/// How much of a job may be unresolved at once: sent, and its result not yet received.
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
    /// How many.
    pub len: u32,
}

/// What a client sends. Items of a job are numbered by the client, from 0, without holes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClientRequest {
    /// Starts a job; answered by `Opened` or `Rejected`.
    Open {
        /// The client's number for it.
        job: JobId,
        /// What to compute.
        algorithm: Algorithm,
        /// Share relative to the other jobs of this user: 1 to [`WEIGHT_MAX`].
        weight: u8,
        /// One item in so many is hashed a second time, by another backend and on another worker
        /// where there is one; 0 for none.
        cross_check: u32,
    },
    /// Items that are whole files; their descriptors ride on the frame, in order.
    Files {
        /// The job.
        job: JobId,
        /// Index of the first item.
        first: u64,
        /// What the client saw when it opened each file.
        #[serde(deserialize_with = "list::at_most::<_, _, FRAME_DESCRIPTORS_MAX>")]
        files: Vec<Stamp>,
    },
    /// Items that are whole messages.
    Messages {
        /// The job.
        job: JobId,
        /// Index of the first item.
        first: u64,
        /// Length of each in bytes.
        #[serde(deserialize_with = "list::at_most::<_, _, FRAME_MESSAGES_MAX>")]
        lens: Vec<u32>,
        /// Their bytes, back to back.
        data: Blob,
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
    /// Answered by `Ready` as soon as so many workers are ready, or when the time is over.
    WaitReady {
        /// Workers to wait for.
        workers: u32,
        /// How long to wait, in milliseconds.
        timeout_ms: u32,
    },
    /// Items that are whole files, which the workers find by name.
    Names {
        /// The job.
        job: JobId,
        /// Index of the first item.
        first: u64,
        /// The dataset that they are in.
        dataset: String,
        /// Their paths in it, and what the client saw when it opened each.
        #[serde(deserialize_with = "list::at_most::<_, _, FRAME_NAMES_MAX>")]
        files: Vec<Named>,
    },
    /// Gives a worker work again that is in quarantine; answered by `Released`.
    Release {
        /// Its name.
        worker: String,
    },
}

/// What a client is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClientReply {
    /// A job is open.
    Opened {
        /// The job.
        job: JobId,
        /// How much of it may be unresolved.
        window: Window,
        /// Workers that are ready now.
        workers: u32,
    },
    /// The job's window is another from now on.
    Window {
        /// The job.
        job: JobId,
        /// How much of it may be unresolved.
        window: Window,
    },
    /// Items are resolved, each exactly once.
    Results {
        /// The job.
        job: JobId,
        /// Which items, in the order of the outputs.
        #[serde(deserialize_with = "list::at_most::<_, _, FRAME_MESSAGES_MAX>")]
        runs: Vec<Run>,
        /// Outputs of the items that did not fail, back to back, all of one length.
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
    /// What the controller sees.
    Status(Box<Status>),
    /// Answers `WaitReady`.
    Ready {
        /// Workers that are ready now.
        workers: u32,
        /// Whether they are as many as were asked for.
        enough: bool,
    },
    /// A request about `job` was not carried out; the connection stays open.
    Rejected {
        /// The job.
        job: JobId,
        /// Why, for a program.
        reason: RejectReason,
        /// Why, for a person.
        text: String,
    },
    /// A worker gave a digest that others contradict. What it gave before for this job was passed on
    /// and may be wrong.
    Suspect {
        /// The job.
        job: JobId,
        /// The worker's name.
        worker: String,
        /// Items of this job that were resolved by what it gave.
        items: u64,
    },
    /// Answers `Release`.
    Released {
        /// The worker's name.
        worker: String,
        /// What became of it.
        outcome: ReleaseOutcome,
    },
}

/// What became of a `Release`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReleaseOutcome {
    /// The worker is given work again, now or when it connects.
    Released,
    /// No worker of that name is in quarantine.
    NotQuarantined,
    /// This client may not ask for it.
    Forbidden,
}

/// Why a request was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RejectReason {
    /// Too many jobs are open, on this connection or altogether.
    TooManyJobs,
}

impl Message for ClientRequest {
    fn check(&self) -> Result<(), LimitExceeded> {
        match self {
            Self::Open { weight, .. } => {
                within("weight", usize::from(*weight), 1, usize::from(WEIGHT_MAX))
            }
            Self::Files { first, files, .. } => {
                within("files", files.len(), 1, FRAME_DESCRIPTORS_MAX)?;
                check_indexes(*first, files.len())
            }
            Self::Messages { first, lens, data, .. } => {
                check_messages(lens, data)?;
                check_indexes(*first, lens.len())
            }
            Self::Piece { index, piece, .. } => {
                check_indexes(*index, 1)?;
                piece.check()
            }
            Self::Names { first, dataset, files, .. } => {
                check_names(dataset, files)?;
                check_indexes(*first, files.len())
            }
            Self::Release { worker } => within("worker", worker.len(), 1, NAME_LEN_MAX),
            Self::Finish { .. } | Self::Cancel { .. } | Self::Status | Self::WaitReady { .. } => {
                Ok(())
            }
        }
    }

    fn descriptors_len(&self) -> usize {
        match self {
            Self::Files { files, .. } => files.len(),
            Self::Open { .. }
            | Self::Messages { .. }
            | Self::Piece { .. }
            | Self::Finish { .. }
            | Self::Cancel { .. }
            | Self::Status
            | Self::WaitReady { .. }
            | Self::Names { .. }
            | Self::Release { .. } => 0,
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
            Self::Rejected { text, .. } => at_most("text", text.len(), REASON_LEN_MAX),
            Self::Suspect { worker, .. } | Self::Released { worker, .. } => {
                at_most("worker", worker.len(), NAME_LEN_MAX)
            }
            Self::Opened { .. }
            | Self::Window { .. }
            | Self::Finished { .. }
            | Self::Cancelled { .. }
            | Self::Ready { .. } => Ok(()),
        }
    }
}

fn check_indexes(first: u64, items_len: usize) -> Result<(), LimitExceeded> {
    match first.checked_add(items_len as u64) {
        Some(_) => Ok(()),
        None => Err(LimitExceeded { field: "item index", value: first, limit: u64::MAX }),
    }
}
