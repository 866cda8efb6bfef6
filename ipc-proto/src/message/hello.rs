//! The first frames of a connection.
//!
//! [`Preamble`] is the start of every [`Hello`] in every version, so that a peer of any version can
//! be refused with a clear message when there is no common version. The rest of a `Hello` is
//! encoded as the lowest version of its own range defines it.

use super::file::check_datasets;
use super::{LimitExceeded, Message, SandboxLayers, at_most, within};
use crate::limits::{
    BACKENDS_MAX, DATASETS_MAX, INTERLEAVE_MAX, NAME_LEN_MAX, REASON_LEN_MAX, TOKEN_LEN_MAX,
    WORKER_THREADS_MAX,
};
use crate::{Algorithm, Blob, list};
use serde::{Deserialize, Serialize};

/// The first bytes of every connection.
pub const MAGIC: [u8; 4] = *b"HCL\x01";

/// The oldest protocol version that this code speaks.
pub const VERSION_MIN: u16 = 7;

/// The newest protocol version that this code speaks.
pub const VERSION_MAX: u16 = 7;

/// The protocol versions that a peer speaks, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// The oldest.
    pub min: u16,
    /// The newest.
    pub max: u16,
}

impl Versions {
    /// The versions of this code.
    pub const OURS: Self = Self { min: VERSION_MIN, max: VERSION_MAX };

    /// The newest version that both speak.
    #[must_use]
    pub fn common(self, other: Self) -> Option<u16> {
        let newest = self.max.min(other.max);
        (newest >= self.min.max(other.min)).then_some(newest)
    }
}

/// The part of a `Hello` that never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preamble {
    /// [`MAGIC`].
    pub magic: [u8; 4],
    /// The versions that the peer speaks.
    pub versions: Versions,
}

/// The first message of a client or worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`MAGIC`].
    pub magic: [u8; 4],
    /// The versions that the peer speaks.
    pub versions: Versions,
    /// The role of the peer.
    pub role: Role,
}

impl Hello {
    /// A `Hello` of this code's versions.
    #[must_use]
    pub const fn new(role: Role) -> Self {
        Self { magic: MAGIC, versions: Versions::OURS, role }
    }
}

/// The role of a peer, with what it can do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Opens jobs or asks for the status.
    Client(ClientIntro),
    /// Computes.
    Worker(WorkerIntro),
}

/// A client's description of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientIntro {
    /// Version of its software, such as `0.1.0`.
    pub software: String,
    /// Proof that it is allowed, where the kernel cannot say who it is; may be empty elsewhere.
    pub token: Blob,
}

/// A worker's description of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerIntro {
    /// Name that stays the same when it reconnects or restarts; unique among living workers.
    pub name: String,
    /// Version of its software.
    pub software: String,
    /// Digest of the image it runs from, empty outside an image.
    pub image: String,
    /// Process id, as the worker sees it.
    pub pid: u32,
    /// Hashing threads.
    pub threads: u16,
    /// Memory that it may use, in bytes.
    pub memory_bytes: u64,
    /// The backend that it chose for each algorithm that it serves.
    #[serde(deserialize_with = "list::at_most::<_, _, BACKENDS_MAX>")]
    pub backends: Vec<Backend>,
    /// The ways by which data can reach it.
    pub planes: Planes,
    /// The way it reads what is not in memory, such as `io_uring` or `plain`.
    pub reading: String,
    /// The layers of its sandbox.
    pub sandbox: SandboxLayers,
    /// Proof that it is the worker of its name, where the kernel cannot say who it is; may be empty
    /// elsewhere.
    pub token: Blob,
    /// Name of its host, or of its VM; empty if it does not know.
    pub host: String,
    /// Its processor, for a person; empty if it does not know.
    pub cpu: String,
}

/// The kernel set that serves an algorithm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backend {
    /// The algorithm.
    pub algorithm: Algorithm,
    /// The kernel set, such as `portable`.
    pub backend: String,
    /// The number of long messages that a thread best interleaves: 1 where that gains nothing.
    pub interleave_max: u8,
}

/// The data planes that a peer can use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planes {
    /// Passed file descriptors.
    pub descriptors: bool,
    /// Bytes inside messages.
    pub inline: bool,
    /// Names in these datasets: those that a worker has, or that the controller knows.
    #[serde(deserialize_with = "list::at_most::<_, _, DATASETS_MAX>")]
    pub datasets: Vec<String>,
}

impl Message for Preamble {
    fn check(&self) -> Result<(), LimitExceeded> {
        Ok(())
    }
}

impl Message for Hello {
    fn check(&self) -> Result<(), LimitExceeded> {
        match &self.role {
            Role::Client(intro) => intro.check(),
            Role::Worker(intro) => intro.check(),
        }
    }
}

impl ClientIntro {
    fn check(&self) -> Result<(), LimitExceeded> {
        at_most("software", self.software.len(), NAME_LEN_MAX)?;
        at_most("token", self.token.len(), TOKEN_LEN_MAX)
    }
}

impl WorkerIntro {
    fn check(&self) -> Result<(), LimitExceeded> {
        within("name", self.name.len(), 1, NAME_LEN_MAX)?;
        at_most("software", self.software.len(), NAME_LEN_MAX)?;
        at_most("image", self.image.len(), NAME_LEN_MAX)?;
        within("threads", usize::from(self.threads), 1, usize::from(WORKER_THREADS_MAX))?;
        within("backends", self.backends.len(), 1, BACKENDS_MAX)?;
        for Backend { backend, interleave_max, .. } in &self.backends {
            at_most("backend", backend.len(), NAME_LEN_MAX)?;
            within("interleave_max", usize::from(*interleave_max), 1, usize::from(INTERLEAVE_MAX))?;
        }
        at_most("reading", self.reading.len(), NAME_LEN_MAX)?;
        at_most("sandbox", self.sandbox.0.into(), SandboxLayers::FULL.0.into())?;
        at_most("token", self.token.len(), TOKEN_LEN_MAX)?;
        at_most("host", self.host.len(), NAME_LEN_MAX)?;
        at_most("cpu", self.cpu.len(), NAME_LEN_MAX)?;
        check_datasets(&self.planes.datasets)
    }
}

/// The controller's answer to a [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HelloReply {
    /// The connection is open; it speaks `version` from here on.
    Welcome(Welcome),
    /// The connection is closed after this.
    Refused {
        /// Why, for a program.
        reason: RefuseReason,
        /// Why, for a person.
        text: String,
        /// The versions that the controller speaks.
        versions: Versions,
    },
}

/// An accepted connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The version that both speak from here on.
    pub version: u16,
    /// Version of the controller's software.
    pub software: String,
    /// Digest of the image that the controller runs from, empty outside an image.
    pub image: String,
    /// The ways by which data can reach the controller.
    pub planes: Planes,
}

/// Why a connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RefuseReason {
    /// The first bytes are not [`MAGIC`], or the rest is malformed.
    NotOurs,
    /// No common version.
    Version,
    /// The peer's uid and gid are not allowed, or its token is not the right one.
    Forbidden,
    /// The role does not belong on this socket.
    WrongSocket,
    /// A living worker has this name.
    NameTaken,
    /// A limit on connections is reached.
    Busy,
    /// No whole `Hello` in time.
    Timeout,
}

impl Message for HelloReply {
    fn check(&self) -> Result<(), LimitExceeded> {
        match self {
            Self::Welcome(welcome) => {
                at_most("software", welcome.software.len(), NAME_LEN_MAX)?;
                at_most("image", welcome.image.len(), NAME_LEN_MAX)?;
                check_datasets(&welcome.planes.datasets)
            }
            Self::Refused { text, .. } => at_most("text", text.len(), REASON_LEN_MAX),
        }
    }
}
