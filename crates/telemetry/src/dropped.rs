//! Lines of this process's log that nobody will read.

use std::sync::atomic::{AtomicU64, Ordering};

/// Why a line was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// There were too many of its event within a second.
    Rate,
    /// Standard error did not take it, or the lines before it.
    Output,
    /// The syslog collector did not take the lines before it.
    Syslog,
}

impl DropReason {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Rate, Self::Output, Self::Syslog];

    /// The value of its label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Output => "output",
            Self::Syslog => "syslog",
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

static LINES: [AtomicU64; DropReason::ALL.len()] =
    [const { AtomicU64::new(0) }; DropReason::ALL.len()];
