//! Lines of this process's log that nobody will read.

use std::sync::atomic::{AtomicU64, Ordering};

/// Why a line was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// There were too many of its level within a second.
    Rate,
    /// Nobody took the lines before it.
    Output,
}

impl DropReason {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Rate, Self::Output];

    /// The value of its label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Output => "output",
        }
    }

    /// Lines dropped for this reason since the process started.
    #[must_use]
    pub fn lines(self) -> u64 {
        LINES[self as usize].load(Ordering::Relaxed)
    }

    pub(crate) fn count(self, lines: u64) {
        LINES[self as usize].fetch_add(lines, Ordering::Relaxed);
    }
}

static LINES: [AtomicU64; DropReason::ALL.len()] = [AtomicU64::new(0), AtomicU64::new(0)];
