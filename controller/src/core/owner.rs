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
}

impl Principal {
    /// The uid in [`JobStatus`].
    pub(super) const fn uid(self) -> u32 {
        match self {
            Self::Uid(uid) => uid,
            Self::Token(_) => JobStatus::NO_UID,
        }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uid(uid) => write!(f, "uid {uid}"),
            Self::Token(number) => write!(f, "token {number} over vsock"),
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
