//! Faults of peers: violations of the protocol.

use super::limits::QUARANTINED_MAX;
use ipc_proto::message::{JobId, LeaseId};
use std::fmt;

/// Why a peer is closed or quarantined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It named a job that is not open.
    UnknownJob(JobId),
    /// It sent items after it had said that there are no more.
    ItemAfterFinish(JobId),
    /// It left out an index, or used one again.
    WrongIndex {
        /// The index that comes next.
        want: u64,
        /// The one it used.
        got: u64,
    },
    /// It sent more than its window allows.
    WindowExceeded(JobId),
    /// It gave itself more credit than a worker may have.
    CreditExceeded,
    /// It was silent past its heartbeat.
    Silent,
    /// It answered a lease that it never held.
    ForeignLease(LeaseId),
    /// Its answer does not fit what it was asked.
    WrongAnswer(LeaseId),
    /// Two runs, of others or of its own, gave what it did not.
    Contradicted,
    /// It let leases pass their deadline again and again.
    Overdue,
    /// It may be one of those whose names could not be kept any more when they gave wrong answers.
    Unnamed,
}

impl Fault {
    /// True if an output is wrong, which a new connection does not repair.
    pub(super) const fn is_wrong_answer(self) -> bool {
        matches!(self, Self::WrongAnswer(_) | Self::Contradicted)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownJob(job) => write!(f, "job {job} is not open"),
            Self::ItemAfterFinish(job) => write!(f, "items after the end of job {job}"),
            Self::WrongIndex { want, got } => write!(f, "item {got} instead of {want}"),
            Self::WindowExceeded(job) => write!(f, "more items of job {job} than its window"),
            Self::CreditExceeded => f.write_str("more credit than a worker may have"),
            Self::Silent => f.write_str("no sign of life"),
            Self::ForeignLease(lease) => write!(f, "answered lease {lease} of another"),
            Self::WrongAnswer(lease) => write!(f, "answer to lease {lease} has the wrong form"),
            Self::Contradicted => {
                f.write_str("it gave a wrong digest: a cross-check contradicts it")
            }
            Self::Overdue => f.write_str("leases passed their deadline again and again"),
            Self::Unnamed => write!(
                f,
                "more than {QUARANTINED_MAX} workers gave wrong answers, and it may be one of them; \
                 restart the controller when they are mended"
            ),
        }
    }
}

impl std::error::Error for Fault {}
