//! What passes between the controller and a worker.

use super::named::{check_dataset, check_names};
use super::work::{check_failures, check_midway};
use super::{
    Failures, LimitExceeded, Message, Named, Piece, Stamp, at_most, exactly, sum_of, within,
};
use crate::limits::{
    BATCH_FILES_MAX, CHUNK_LEN, CREDIT_MAX, FRAME_MESSAGES_MAX, FRAME_NAMES_MAX, INLINE_LEN_MAX,
};
use crate::{Algorithm, Blob, list};
use serde::{Deserialize, Serialize};

/// Most leases in one `Revoke`: all that a worker can hold.
const REVOKE_MAX: usize = CREDIT_MAX as usize;

/// A batch in a worker's hands; never used again after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LeaseId(pub u64);

/// What the controller sends to a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkerRequest {
    /// Do this; it uses up one credit.
    Assign {
        /// Names the batch in the answer.
        lease: LeaseId,
        /// How often the batch was leased before, plus one.
        attempt: u32,
        /// What to compute.
        algorithm: Algorithm,
        /// Of what.
        work: Work,
        /// Whether this is a cross-check of what was computed before: by another backend than the
        /// one that is usual here, if there is one, and only of files that still are as the client
        /// saw them.
        check: bool,
    },
    /// These leases are void: do not start them, and do not answer.
    Revoke {
        /// The leases.
        #[serde(deserialize_with = "list::at_most::<_, _, REVOKE_MAX>")]
        leases: Vec<LeaseId>,
    },
    /// Answers a worker's heartbeat.
    Heartbeat,
    /// Finish what is leased, then leave: the controller is going down in order.
    Shutdown,
}

/// One batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Work {
    /// Whole files, one descriptor each, in the order of the stamps.
    Files {
        /// What the client saw when it opened each.
        #[serde(deserialize_with = "list::at_most::<_, _, BATCH_FILES_MAX>")]
        files: Vec<Stamp>,
    },
    /// Whole messages, back to back in `data`.
    Messages {
        /// Length of each in bytes.
        #[serde(deserialize_with = "list::at_most::<_, _, FRAME_MESSAGES_MAX>")]
        lens: Vec<u32>,
        /// Their bytes.
        data: Blob,
    },
    /// A BLAKE3 subtree of a large file, whose descriptor rides along; gives a chaining value.
    Part {
        /// What the client saw when it opened the file.
        file: Stamp,
        /// Where the part starts, in bytes: a multiple of its full length.
        offset: u64,
        /// Length of the part: 1024·2^k bytes, or less where it ends the file.
        len: u64,
    },
    /// A step of a streamed hash.
    Piece(Piece),
    /// Whole files in a dataset of the worker's.
    Names {
        /// The dataset.
        dataset: String,
        /// Their paths in it, and what the client saw when it opened each.
        #[serde(deserialize_with = "list::at_most::<_, _, FRAME_NAMES_MAX>")]
        files: Vec<Named>,
    },
    /// As `Part`, of a file in a dataset of the worker's.
    NamedPart {
        /// The dataset.
        dataset: String,
        /// The file's path in it, and what the client saw when it opened the file.
        file: Named,
        /// Where the part starts, in bytes: a multiple of its full length.
        offset: u64,
        /// Length of the part: 1024·2^k bytes, or less where it ends the file.
        len: u64,
    },
    /// What is left of the SHA-2 of a whole file, whose descriptor rides along.
    Rest {
        /// What the file looked like to who read its start.
        file: Stamp,
        /// Where the rest starts, in bytes: a multiple of [`SEGMENT_ALIGN`], not 0.
        ///
        /// [`SEGMENT_ALIGN`]: crate::limits::SEGMENT_ALIGN
        offset: u64,
        /// What the bytes before it gave, as from a [`Piece::Segment`].
        state: Blob,
    },
    /// As `Rest`, of a file in a dataset of the worker's.
    NamedRest {
        /// The dataset.
        dataset: String,
        /// The file's path in it, and what the file looked like to who read its start.
        file: Named,
        /// Where the rest starts, in bytes.
        offset: u64,
        /// What the bytes before it gave.
        state: Blob,
    },
}

impl Work {
    /// How many items it holds.
    #[must_use]
    pub fn items_len(&self) -> usize {
        match self {
            Self::Files { files } => files.len(),
            Self::Messages { lens, .. } => lens.len(),
            Self::Names { files, .. } => files.len(),
            Self::Part { .. }
            | Self::Piece(_)
            | Self::NamedPart { .. }
            | Self::Rest { .. }
            | Self::NamedRest { .. } => 1,
        }
    }

    /// How many descriptors it needs.
    #[must_use]
    pub fn descriptors_len(&self) -> usize {
        match self {
            Self::Files { files } => files.len(),
            Self::Part { .. } | Self::Rest { .. } => 1,
            Self::Messages { .. }
            | Self::Piece(_)
            | Self::Names { .. }
            | Self::NamedPart { .. }
            | Self::NamedRest { .. } => 0,
        }
    }

    fn check(&self) -> Result<(), LimitExceeded> {
        match self {
            Self::Files { files } => within("files", files.len(), 1, BATCH_FILES_MAX),
            Self::Messages { lens, data } => check_messages(lens, data),
            Self::Part { file, offset, len } => check_part(file.size, *offset, *len),
            Self::Piece(piece) => piece.check(),
            Self::Names { dataset, files } => check_names(dataset, files),
            Self::NamedPart { dataset, file, offset, len } => {
                check_dataset(dataset)?;
                file.check()?;
                check_part(file.stamp.size, *offset, *len)
            }
            Self::Rest { file, offset, state } => check_midway(file, *offset, state),
            Self::NamedRest { dataset, file, offset, state } => {
                check_dataset(dataset)?;
                file.check()?;
                check_midway(&file.stamp, *offset, state)
            }
        }
    }
}

pub(super) fn check_messages(lens: &[u32], data: &[u8]) -> Result<(), LimitExceeded> {
    within("messages", lens.len(), 1, FRAME_MESSAGES_MAX)?;
    at_most("data length", data.len(), INLINE_LEN_MAX)?;
    exactly("sum of lengths", sum_of(lens), data.len() as u64)
}

fn check_part(size: u64, offset: u64, len: u64) -> Result<(), LimitExceeded> {
    exactly("empty part", u64::from(len == 0), 0)?;
    let end = offset.checked_add(len).filter(|&end| end <= size);
    let Some(end) = end else {
        return Err(LimitExceeded { field: "part end", value: offset, limit: size });
    };
    let full_len = len.max(CHUNK_LEN).checked_next_power_of_two().unwrap_or(u64::MAX);
    exactly("part offset", offset % full_len, 0)?;
    let short = len != full_len;
    exactly("short part before the end", u64::from(short && end != size), 0)
}

/// What a worker sends to the controller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkerReply {
    /// Ready for so many more batches.
    Credit {
        /// Added to what is left of earlier credit.
        batches: u16,
    },
    /// A batch is done.
    Done {
        /// Which lease.
        lease: LeaseId,
        /// The attempt that the lease was assigned with.
        attempt: u32,
        /// Ready for so many more batches.
        credit: u16,
        /// Time that one thread spent on it, in microseconds.
        busy_us: u64,
        /// Digests of the items that did not fail, back to back, in order; or the one output of
        /// a part or piece.
        outputs: Blob,
        /// The items that failed.
        #[serde(deserialize_with = "list::at_most::<_, _, FRAME_MESSAGES_MAX>")]
        failures: Failures,
    },
    /// Still here.
    Heartbeat,
    /// How far a batch is that is the SHA-2 of one file, so that another worker can go on from there.
    Progress {
        /// Which lease.
        lease: LeaseId,
        /// The attempt that the lease was assigned with.
        attempt: u32,
        /// What the file looked like before it was read.
        file: Stamp,
        /// How many of its bytes are absorbed: a multiple of [`SEGMENT_ALIGN`], not 0.
        ///
        /// [`SEGMENT_ALIGN`]: crate::limits::SEGMENT_ALIGN
        offset: u64,
        /// What they gave, as from a [`Piece::Segment`].
        state: Blob,
    },
}

impl Message for WorkerRequest {
    fn check(&self) -> Result<(), LimitExceeded> {
        match self {
            Self::Assign { work, .. } => work.check(),
            Self::Revoke { leases } => at_most("leases", leases.len(), REVOKE_MAX),
            Self::Heartbeat | Self::Shutdown => Ok(()),
        }
    }

    fn descriptors_len(&self) -> usize {
        match self {
            Self::Assign { work, .. } => work.descriptors_len(),
            Self::Revoke { .. } | Self::Heartbeat | Self::Shutdown => 0,
        }
    }
}

impl Message for WorkerReply {
    fn check(&self) -> Result<(), LimitExceeded> {
        match self {
            Self::Credit { batches } => at_most("credit", usize::from(*batches), CREDIT_MAX.into()),
            Self::Done { credit, failures, .. } => {
                at_most("credit", usize::from(*credit), CREDIT_MAX.into())?;
                check_failures(failures, FRAME_MESSAGES_MAX as u64)
            }
            Self::Heartbeat => Ok(()),
            Self::Progress { file, offset, state, .. } => check_midway(file, *offset, state),
        }
    }
}
