//! Counts for operators: of what became of items, leases and peers, in more detail than a status shows.
//!
//! Every label is from a list of ours: a peer cannot make a series.

use super::fault::Fault;
use ipc_proto::message::RefuseReason;
use ipc_proto::{Algorithm, Algorithms, backend};
use std::time::Duration;

/// The backend of an item that no worker answered, of one that is not known here, and then the known ones.
pub const BACKENDS: [&str; backend::NAMES.len() + 2] = {
    let mut names = ["none"; backend::NAMES.len() + 2];
    names[1] = "other";
    let mut i = 0;
    while i < backend::NAMES.len() {
        names[i + 2] = backend::NAMES[i];
        i += 1;
    }
    names
};

const NO_BACKEND: usize = 0;
const OTHER_BACKEND: usize = 1;

/// Index in [`BACKENDS`] of the first backend that a worker named for an algorithm.
pub(super) fn backend_index(choice: &str) -> usize {
    let first = choice.split('/').next().unwrap_or_default();
    let position = backend::NAMES.iter().position(|name| *name == first);
    position.map_or(OTHER_BACKEND, |position| position + 2)
}

/// The backend of each algorithm that the worker of an answer has.
pub(super) type BackendIndexes = [usize; Algorithm::ALL.len()];

/// Those of an item that no worker answered.
pub(super) const NO_BACKENDS: BackendIndexes = [NO_BACKEND; Algorithm::ALL.len()];

/// Items and bytes hashed with one backend for one algorithm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hashed {
    /// Items resolved with a digest.
    pub items: u64,
    /// Items resolved without one.
    pub items_failed: u64,
    /// Bytes hashed.
    pub bytes: u64,
    /// Bytes of what failed, as announced.
    pub bytes_failed: u64,
}

/// Which socket a peer used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerRole {
    /// That of clients.
    Client,
    /// That of workers.
    Worker,
}

impl PeerRole {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Client, Self::Worker];

    /// The value of its label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Worker => "worker",
        }
    }
}

/// Why a connection was closed over what a peer sent, or did not send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadFrame {
    /// A frame beyond its limits, or that is no message.
    Malformed,
    /// Descriptors that are missing, unclaimed, lost, or not accepted.
    Descriptors,
    /// The end of the connection inside a frame.
    Cut,
    /// A frame that was not whole in time.
    Stalled,
    /// A message that the state of the connection does not allow.
    Protocol,
    /// No sign of life.
    Silent,
}

impl BadFrame {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Malformed,
        Self::Descriptors,
        Self::Cut,
        Self::Stalled,
        Self::Protocol,
        Self::Silent,
    ];

    /// The value of its label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Descriptors => "descriptors",
            Self::Cut => "cut",
            Self::Stalled => "stalled",
            Self::Protocol => "protocol",
            Self::Silent => "silent",
        }
    }
}

impl From<Fault> for BadFrame {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Silent => Self::Silent,
            Fault::UnknownJob(_)
            | Fault::ItemAfterFinish(_)
            | Fault::WrongIndex { .. }
            | Fault::WindowExceeded(_)
            | Fault::CreditExceeded
            | Fault::ForeignLease(_)
            | Fault::WrongAnswer(_)
            | Fault::Contradicted
            | Fault::Overdue
            | Fault::Unnamed => Self::Protocol,
        }
    }
}

/// The reasons to refuse a connection, with the values of their label.
pub const REFUSALS: [(RefuseReason, &str); 7] = [
    (RefuseReason::NotOurs, "not_ours"),
    (RefuseReason::Version, "version"),
    (RefuseReason::Forbidden, "forbidden"),
    (RefuseReason::WrongSocket, "wrong_socket"),
    (RefuseReason::NameTaken, "name_taken"),
    (RefuseReason::Busy, "busy"),
    (RefuseReason::Timeout, "timeout"),
];

/// Why a batch was put back into its queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requeue {
    /// Its deadline expired.
    Expired,
    /// Its worker's connection ended.
    Disconnected,
    /// It was taken back: its worker stalled or is in quarantine, or others come first.
    Revoked,
}

impl Requeue {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Expired, Self::Disconnected, Self::Revoked];

    /// The value of its label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Disconnected => "disconnected",
            Self::Revoked => "revoked",
        }
    }
}

/// State of the client of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientState {
    /// It was connected, and got the result.
    Connected,
    /// It cancelled the job.
    Cancelled,
    /// It left.
    Left,
}

impl ClientState {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Connected, Self::Cancelled, Self::Left];

    /// The value of its label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Cancelled => "cancelled",
            Self::Left => "left",
        }
    }
}

/// Counts since the start, by the lists above.
#[derive(Clone, Debug)]
pub struct CoreCounts {
    /// By algorithm, then by [`BACKENDS`].
    pub hashed: [[Hashed; BACKENDS.len()]; Algorithm::ALL.len()],
    /// By [`Requeue`].
    pub requeues: [u64; Requeue::ALL.len()],
    /// Items leased again after they were lost with a worker.
    pub retries: u64,
    /// Items by [`ClientState`].
    pub results: [u64; ClientState::ALL.len()],
    /// Connections after their handshake, by [`PeerRole`].
    pub connections: [u64; PeerRole::ALL.len()],
    /// By [`PeerRole`], then by [`REFUSALS`].
    pub refused: [[u64; REFUSALS.len()]; PeerRole::ALL.len()],
    /// By [`PeerRole`], then by [`BadFrame`].
    pub bad_frames: [[u64; BadFrame::ALL.len()]; PeerRole::ALL.len()],
    /// Time of the last digest, since the start.
    pub last_digest: Duration,
}

impl Default for CoreCounts {
    fn default() -> Self {
        Self {
            hashed: [[Hashed::default(); BACKENDS.len()]; Algorithm::ALL.len()],
            requeues: Default::default(),
            retries: 0,
            results: Default::default(),
            connections: Default::default(),
            refused: Default::default(),
            bad_frames: Default::default(),
            last_digest: Duration::ZERO,
        }
    }
}

impl CoreCounts {
    /// Counts for each of `algorithms`.
    pub(super) fn count_hashed(
        &mut self,
        algorithms: Algorithms,
        backends: &BackendIndexes,
        more: Hashed,
    ) {
        for &algorithm in &*algorithms {
            let index = algorithm as usize;
            let hashed = &mut self.hashed[index][backends[index]];
            hashed.items += more.items;
            hashed.items_failed += more.items_failed;
            hashed.bytes = hashed.bytes.saturating_add(more.bytes);
            hashed.bytes_failed = hashed.bytes_failed.saturating_add(more.bytes_failed);
        }
    }

    /// Counts a peer that was refused in the handshake.
    pub(super) fn count_refused(&mut self, role: PeerRole, reason: RefuseReason) {
        let position = REFUSALS.iter().position(|(known, _)| *known == reason);
        self.refused[role as usize][position.expect("every reason to refuse is listed")] += 1;
    }

    /// Counts a connection that was closed.
    pub(super) fn count_bad_frame(&mut self, role: PeerRole, reason: BadFrame) {
        self.bad_frames[role as usize][reason as usize] += 1;
    }
}

/// Durations that ended within one step, for histograms.
#[derive(Clone, Debug, Default)]
pub struct Timings {
    /// From a lease to its accepted answer.
    pub batches: Vec<Duration>,
    /// From the queue to a lease.
    pub waits: Vec<Duration>,
}

/// Unresolved items by where they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// Those that wait for a worker.
    pub queued: u64,
    /// Those that a worker has.
    pub leased: u64,
    /// Large files of which workers have parts.
    pub split: u64,
    /// Time for which the oldest work has waited, 0 if none waits.
    pub oldest: Duration,
}
