//! Principals and owners: whom a job is charged to, and where its results go.

use super::{Action, ClientId, Core, ListTag, Quota};
use ipc_proto::message::{ClientReply, JobStatus};
use std::fmt;

/// The holder of windows, shares and quotas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Principal {
    /// A user of this host, by the credentials of a Unix socket.
    Uid(u32),
    /// All clients over vsock, where nobody has a uid, that know the same token: its number.
    Token(u16),
    /// Whoever knows a token of the HTTP API, by the name of that.
    Named(PrincipalName),
}

/// Name of a principal: text without zero bytes, padded with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PrincipalName([u8; Self::LEN_MAX]);

impl PrincipalName {
    /// Longest name, in bytes.
    pub const LEN_MAX: usize = 32;

    /// The name `text`, of 1 to [`Self::LEN_MAX`] ASCII letters, digits, dots, hyphens and underscores.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        if text.is_empty() || text.len() > Self::LEN_MAX || !text.bytes().all(is_plain) {
            return None;
        }
        let mut bytes = [0; Self::LEN_MAX];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Some(Self(bytes))
    }
}

impl fmt::Display for PrincipalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.0.iter().position(|&byte| byte == 0).unwrap_or(Self::LEN_MAX);
        f.pad(&String::from_utf8_lossy(&self.0[..end]))
    }
}

impl Principal {
    /// The uid in [`JobStatus`].
    pub(super) const fn uid(self) -> u32 {
        match self {
            Self::Uid(uid) => uid,
            Self::Token(_) | Self::Named(_) => JobStatus::NO_UID,
        }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uid(uid) => write!(f, "uid {uid}"),
            Self::Token(number) => write!(f, "token {number} over vsock"),
            Self::Named(name) => write!(f, "token {name}"),
        }
    }
}

/// The sink of a job's results. A job ends with its client only because its owner is that client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// A connection.
    Attached(ClientId),
    /// The book of durable jobs, which stays.
    Durable,
    /// Whoever asked for a page: a job of that one item. Its outcome is no report (`lists`).
    List(ListTag),
}

/// Identity of the one who opens a job, and the bounds on what it may hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Opener {
    pub(super) owner: Owner,
    pub(super) principal: Principal,
    pub(super) pid: u32,
    pub(super) quota: Quota,
}

impl<F: Clone> Core<F> {
    /// Reports to the owner of a job.
    pub(super) fn tell(&mut self, owner: Owner, report: ClientReply) {
        match owner {
            // A client that is leaving loses its jobs one by one, and hears no more of them.
            Owner::Attached(client) if self.clients.contains_key(&client) => {
                self.actions.push(Action::ToClient(client, report));
            }
            Owner::Attached(_) | Owner::List(_) => {}
            Owner::Durable => self.actions.push(Action::ToBook(report)),
        }
    }
}
