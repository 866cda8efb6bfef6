//! Messages between the controller and a worker.

use super::work::{check_checkpoint, check_failures};
use super::{
    Failures, FileItem, FileSource, LimitExceeded, ListOutcome, ListWork, Message, Piece, Stamp,
    at_most, exactly, sum_of, within,
};
use crate::limits::{CHUNK_LEN, CREDIT_MAX, FRAME_MESSAGES_MAX, FRAME_NAMES_MAX, INLINE_LEN_MAX};
use crate::{Algorithms, Blob, list};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Most leases in one `Revoke`: all that a worker can hold.
const REVOKE_MAX: usize = CREDIT_MAX as usize;

/// A batch in a worker's hands; never used again after it, by any controller.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct LeaseId {
    /// Start time of the controller that granted it, in seconds since 1970.
    pub epoch: u32,
    /// Its number among the leases of that controller.
    pub number: u64,
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.number)
    }
}

/// The controller's message to a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkerRequest {
    /// Assigns a batch; it uses up one credit.
    Assign {
        /// Names the batch in the answer.
        lease: LeaseId,
        /// Number of this attempt at the batch, from 1.
        attempt: u32,
        /// The digests of each item, in this order.
        algorithms: Algorithms,
        /// The items.
        work: Work,
        /// This is a cross-check of an earlier result: to be hashed by another backend than
        /// the usual one, if there is one, and only if a file still is as the client saw it.
        check: bool,
        /// A file must be shown to have no writer before it is read, however old its stamp.
        strict_reads: bool,
    },
    /// These leases are void: do not start them, and do not answer.
    Revoke {
        /// The leases.
        #[serde(deserialize_with = "list::at_most::<_, _, REVOKE_MAX>")]
        leases: Vec<LeaseId>,
    },
    /// Answers a worker's heartbeat.
    Heartbeat,
    /// Answers [`WorkerReply::Leaving`], once the worker holds no lease and gets none: it may close.
    Leave,
}

/// One batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Work {
    /// Files; yields the digests of each.
    Files {
        /// Where their bytes come from.
        source: FileSource,
        /// The files.
        #[serde(deserialize_with = "list::at_most::<_, _, FRAME_NAMES_MAX>")]
        files: Vec<FileItem>,
    },
    /// Messages inside the frame; yields the digests of each.
    Inline {
        /// Length of each in bytes.
        #[serde(deserialize_with = "list::at_most::<_, _, FRAME_MESSAGES_MAX>")]
        lens: Vec<u32>,
        /// Their bytes, back to back.
        data: Blob,
    },
    /// A BLAKE3 subtree of a large file; yields a chaining value.
    Subtree {
        /// Where its bytes come from: one file.
        source: FileSource,
        /// The file.
        file: FileItem,
        /// Start of the subtree, in bytes from the item's start: a multiple of its full length.
        offset: u64,
        /// Length of the subtree: 1024·2^k bytes, or less where it ends the item.
        len: u64,
    },
    /// The SHA-2 of a file from a checkpoint on; yields the digest.
    Resume {
        /// Where its bytes come from: one file.
        source: FileSource,
        /// The file, with the stamp that the reader of its start saw.
        file: FileItem,
        /// Bytes before the checkpoint, from the item's start: a multiple of [`SEGMENT_ALIGN`], not 0.
        ///
        /// [`SEGMENT_ALIGN`]: crate::limits::SEGMENT_ALIGN
        offset: u64,
        /// State of the hash there, as from a [`Piece::Segment`].
        state: Blob,
    },
    /// A step of a streamed hash.
    Piece(Piece),
    /// A page of a directory of a dataset; answered by [`WorkerReply::Listed`].
    List(ListWork),
}

impl Work {
    /// The number of items.
    #[must_use]
    pub fn items_len(&self) -> usize {
        match self {
            Self::Files { files, .. } => files.len(),
            Self::Inline { lens, .. } => lens.len(),
            Self::Subtree { .. } | Self::Resume { .. } | Self::Piece(_) | Self::List(_) => 1,
        }
    }

    /// The number of descriptors that ride along.
    #[must_use]
    pub fn descriptors_len(&self) -> usize {
        match self {
            Self::Files { source, files } => source.descriptors_len(files.len()),
            Self::Subtree { source, .. } | Self::Resume { source, .. } => source.descriptors_len(1),
            Self::Inline { .. } | Self::Piece(_) | Self::List(_) => 0,
        }
    }

    fn check(&self) -> Result<(), LimitExceeded> {
        match self {
            Self::Files { source, files } => source.check(files),
            Self::Inline { lens, data } => check_inline(lens, data),
            Self::Subtree { source, file, offset, len } => {
                source.check(&[*file])?;
                check_subtree(file.len(), *offset, *len)
            }
            Self::Resume { source, file, offset, state } => {
                source.check(&[*file])?;
                check_checkpoint(file.len(), *offset, state)
            }
            Self::Piece(piece) => piece.check(),
            Self::List(list) => list.check(),
        }
    }
}

pub(super) fn check_inline(lens: &[u32], data: &[u8]) -> Result<(), LimitExceeded> {
    within("messages", lens.len(), 1, FRAME_MESSAGES_MAX)?;
    at_most("data length", data.len(), INLINE_LEN_MAX)?;
    exactly("sum of lengths", sum_of(lens), data.len() as u64)
}

fn check_subtree(size: u64, offset: u64, len: u64) -> Result<(), LimitExceeded> {
    exactly("empty subtree", u64::from(len == 0), 0)?;
    let end = offset.checked_add(len).filter(|&end| end <= size);
    let Some(end) = end else {
        return Err(LimitExceeded { field: "subtree end", value: offset, limit: size });
    };
    let full_len = len.max(CHUNK_LEN).checked_next_power_of_two().unwrap_or(u64::MAX);
    exactly("subtree offset", offset % full_len, 0)?;
    let short = len != full_len;
    exactly("short subtree before the end", u64::from(short && end != size), 0)
}

/// A worker's message to the controller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkerReply {
    /// Ready for more batches.
    Credit {
        /// Added to what is left of earlier credit.
        batches: u16,
    },
    /// A batch is done.
    Done {
        /// The lease.
        lease: LeaseId,
        /// The attempt that the lease was assigned with.
        attempt: u32,
        /// Ready for this many more batches.
        credit: u16,
        /// Time that one thread spent on it, in microseconds.
        busy_us: u64,
        /// Outputs of the items that did not fail, back to back, in order: of each item the digests
        /// in the order of the algorithms, or the one output of a subtree or piece.
        outputs: Blob,
        /// The items that failed.
        #[serde(deserialize_with = "list::at_most::<_, _, FRAME_MESSAGES_MAX>")]
        failures: Failures,
    },
    /// Still here.
    Heartbeat,
    /// A checkpoint of a batch that is the SHA-2 of one file, from which another worker can resume.
    Progress {
        /// The lease.
        lease: LeaseId,
        /// The attempt that the lease was assigned with.
        attempt: u32,
        /// The file's stamp before it was read.
        file: Stamp,
        /// Bytes before the checkpoint, from the item's start: a multiple of [`SEGMENT_ALIGN`], not 0.
        ///
        /// [`SEGMENT_ALIGN`]: crate::limits::SEGMENT_ALIGN
        offset: u64,
        /// State of the hash there, as from a [`Piece::Segment`].
        state: Blob,
    },
    /// A [`Work::List`] is done.
    Listed {
        /// The lease.
        lease: LeaseId,
        /// The attempt that the lease was assigned with.
        attempt: u32,
        /// Ready for this many more batches.
        credit: u16,
        /// The page.
        outcome: ListOutcome,
    },
    /// The worker shuts down: no more leases, please, and what it does not answer in this time goes to others.
    Leaving {
        /// In milliseconds.
        within_ms: u32,
    },
}

impl Message for WorkerRequest {
    fn check(&self) -> Result<(), LimitExceeded> {
        match self {
            Self::Assign { work, .. } => work.check(),
            Self::Revoke { leases } => at_most("leases", leases.len(), REVOKE_MAX),
            Self::Heartbeat | Self::Leave => Ok(()),
        }
    }

    fn descriptors_len(&self) -> usize {
        match self {
            Self::Assign { work, .. } => work.descriptors_len(),
            Self::Revoke { .. } | Self::Heartbeat | Self::Leave => 0,
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
            Self::Heartbeat | Self::Leaving { .. } => Ok(()),
            Self::Progress { file, offset, state, .. } => {
                check_checkpoint(file.size, *offset, state)
            }
            Self::Listed { credit, outcome, .. } => {
                at_most("credit", usize::from(*credit), CREDIT_MAX.into())?;
                outcome.check()
            }
        }
    }
}
