//! Steps of streamed hashes, and failures of items: shared by clients and workers.

use super::{LimitExceeded, at_most, exactly, within};
use crate::Blob;
use crate::limits::{
    CHAINING_VALUE_LEN, CHUNK_LEN, INLINE_LEN_MAX, MERGE_VALUES_MAX, SEGMENT_ALIGN, STATE_LEN_MAX,
};
use serde::{Deserialize, Serialize};

/// A step of a hash whose input is not at hand as a whole. The output is not a digest until the
/// last step, and each step can be repeated on any worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Piece {
    /// BLAKE3: the chaining value of the subtree over `data`, which starts at `offset` of the
    /// input. `data` is 1024·2^k bytes, or less where it ends the input; `offset` is a multiple
    /// of the subtree's length rounded up to 1024·2^k.
    Subtree {
        /// Where `data` starts in the input, in bytes.
        offset: u64,
        /// 1 to [`INLINE_LEN_MAX`] bytes.
        data: Blob,
    },
    /// BLAKE3: neighbouring chaining values of subtrees of equal length, the last one possibly
    /// shorter, merged into one.
    Merge {
        /// 2 to [`MERGE_VALUES_MAX`] values of 32 bytes.
        values: Blob,
        /// This is the whole input, so that the output is the digest.
        root: bool,
    },
    /// SHA-2: `data` absorbed into `state`, giving the next state, or the digest after the last.
    Segment {
        /// Output of the segment before, empty for the first.
        state: Blob,
        /// A multiple of [`SEGMENT_ALIGN`] bytes unless `last`.
        data: Blob,
        /// The input ends here.
        last: bool,
    },
}

impl Piece {
    /// Length of its data in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Subtree { data, .. } => data.len(),
            Self::Merge { values, .. } => values.len(),
            Self::Segment { state, data, .. } => state.len() + data.len(),
        }
    }

    /// Returns true if it holds no bytes: only the single segment of an empty stream does.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn check(&self) -> Result<(), LimitExceeded> {
        match self {
            Self::Subtree { offset, data } => {
                within("subtree length", data.len(), 1, INLINE_LEN_MAX)?;
                let full_len = (data.len() as u64).max(CHUNK_LEN).next_power_of_two();
                exactly("subtree offset", offset % full_len, 0)?;
                // Beyond this the chunk counter, or the length itself, would not fit.
                let end = offset.checked_add(data.len() as u64);
                exactly("subtree end overflows", u64::from(end.is_none()), 0)
            }
            Self::Merge { values, .. } => {
                exactly("values length", (values.len() % CHAINING_VALUE_LEN) as u64, 0)?;
                within("values", values.len() / CHAINING_VALUE_LEN, 2, MERGE_VALUES_MAX)
            }
            Self::Segment { state, data, last } => {
                at_most("state length", state.len(), STATE_LEN_MAX)?;
                at_most("segment length", data.len(), INLINE_LEN_MAX)?;
                let ragged_len = if *last { 0 } else { data.len() % SEGMENT_ALIGN };
                exactly("segment length modulo 128", ragged_len as u64, 0)
            }
        }
    }
}

/// Why an item has no digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Failure {
    /// The file changed while it was read.
    Changed,
    /// The descriptor is not a regular file open for reading.
    NotRegular,
    /// Reading failed.
    Io {
        /// The system's error number (`errno`).
        errno: i32,
    },
    /// The input is not one that the algorithm's step takes.
    Invalid,
    /// No worker can do it: none serves the algorithm or the data plane.
    Unsupported,
    /// Every worker that tried was lost, or missed its deadline.
    WorkersLost {
        /// The number of attempts.
        attempts: u32,
    },
    /// The file was named in a dataset that the controller does not know.
    UnknownDataset,
    /// Workers returned different digests, and no two the same.
    Disputed,
    /// The manifest names it by a path that starts at a root, or leads up.
    Outside,
    /// Of a manifest: it is no list of digests.
    NotAList,
    /// Of a manifest: lines of it are no claim.
    BadLines {
        /// Their number.
        lines: u32,
    },
}

/// Checks a checkpoint at `offset` of an item of at most `len` bytes.
pub(super) fn check_checkpoint(len: u64, offset: u64, state: &[u8]) -> Result<(), LimitExceeded> {
    within("state length", state.len(), 1, STATE_LEN_MAX)?;
    exactly("offset modulo 128", offset % SEGMENT_ALIGN as u64, 0)?;
    if offset == 0 || offset > len {
        return Err(LimitExceeded { field: "offset", value: offset, limit: len });
    }
    Ok(())
}

/// Failures by position among the items of a message, in ascending order.
pub type Failures = Vec<(u32, Failure)>;

/// Checks the outcome of `items_len` items: positions ascend and fall inside.
pub(super) fn check_failures(failures: &Failures, items_len: u64) -> Result<(), LimitExceeded> {
    let mut next = 0;
    for &(position, _) in failures {
        let position = u64::from(position);
        if position < next || position >= items_len {
            return Err(LimitExceeded {
                field: "failure position",
                value: position,
                limit: items_len,
            });
        }
        next = position + 1;
    }
    Ok(())
}
