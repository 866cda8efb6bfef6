//! The exit statuses, which scripts depend on.

/// Exit status of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Everything asked for was done.
    Success,
    /// Something was not: a file without digest, a mismatch, standard output that is full.
    Failure,
    /// The arguments make no sense.
    Usage,
    /// The controller cannot be reached, refused, or was lost.
    Unreachable,
    /// A signal ended it.
    Interrupted,
}

impl Exit {
    /// The status for the system.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::Unreachable => 3,
            Self::Interrupted => 4,
        }
    }

    /// [`Exit::Success`] if `ok`, else [`Exit::Failure`].
    pub(crate) const fn from_ok(ok: bool) -> Self {
        if ok { Self::Success } else { Self::Failure }
    }
}
