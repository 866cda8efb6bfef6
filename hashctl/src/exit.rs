//! The exit statuses, which scripts depend on.

/// Exit status of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Everything asked for was done.
    Success = 0,
    /// A file without digest, a mismatch, standard output that is full.
    Failure = 1,
    /// Invalid arguments.
    Usage = 2,
    /// The controller cannot be reached, refused, or was lost.
    Unreachable = 3,
    /// A signal ended it.
    Interrupted = 4,
}

impl Exit {
    /// The status for the system.
    pub(crate) const fn code(self) -> u8 {
        self as u8
    }

    /// [`Exit::Success`] if `ok`, else [`Exit::Failure`].
    pub(crate) const fn from_ok(ok: bool) -> Self {
        if ok { Self::Success } else { Self::Failure }
    }
}
