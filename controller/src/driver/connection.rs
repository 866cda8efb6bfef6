//! The life of one connection: handshake, messages, end.

mod transfer;
mod turn;

use super::account::{BASE_LEN, Charge};
use super::admission::{Admitted, Newcomer, Side, check_role, connect, refuse};
use super::hub::Hub;
use super::log::{self, LOG};
use super::port::Port;
use crate::core::tally::{BadFrame, PeerRole};
use crate::core::{ClientId, Principal, Rights, WorkerId};
use crate::events::TrailKind;
use ipc_proto::handshake::{self, Accepted, Refusal};
use ipc_proto::limits::{FRAME_TIMEOUT, HELLO_TIMEOUT};
use ipc_proto::message::{HelloReply, Planes, RefuseReason, Role, Welcome};
use ipc_socket::{Inbox, InboxError, Socket};
use std::io;
use std::rc::Rc;
use transfer::{FrameTimer, ROOM_PAUSE, receive, wait};
use turn::take_turn;

/// Role of a connection after its handshake.
#[derive(Clone, Copy, Debug)]
enum Identity {
    /// A foreign one is another user than the controller, and not root.
    Client {
        client: ClientId,
        /// Its effective group; 0 over vsock.
        gid: u32,
        is_foreign: bool,
    },
    Worker(WorkerId),
}

/// Why a connection ended.
#[derive(Debug)]
enum End {
    /// The peer closed it, or the core did.
    Closed,
    /// The peer closed it inside a frame.
    Cut,
    /// A frame was not whole in time.
    Stalled,
    /// The peer broke the protocol.
    Fault(InboxError),
    /// The peer used a plane that it was not offered.
    NotOffered,
    /// The peer passed a directory.
    Directory,
    /// The system's error.
    Io(io::Error),
}

impl End {
    /// The fault of the peer, if it was one.
    fn bad_frame(&self) -> Option<BadFrame> {
        match self {
            Self::Closed | Self::Io(_) => None,
            Self::Cut => Some(BadFrame::Cut),
            Self::Stalled => Some(BadFrame::Stalled),
            Self::Fault(InboxError::Frame(_) | InboxError::Codec(_)) => Some(BadFrame::Malformed),
            Self::Fault(
                InboxError::DescriptorsMissing { .. }
                | InboxError::DescriptorsUnclaimed { .. }
                | InboxError::Truncated,
            )
            | Self::NotOffered
            | Self::Directory => Some(BadFrame::Descriptors),
        }
    }
}

/// Serves one peer until its connection ends.
pub(super) async fn serve(hub: Rc<Hub>, socket: Socket, newcomer: Newcomer, side: Side) {
    let Newcomer { pid, gid, local, mut charge, wait } = newcomer;
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
    let port = match Port::new(socket) {
        Ok(port) => Rc::new(port),
        Err(error) => {
            let principal = charge.principal;
            return LOG.log(&log::Event::NoConnection { principal, error: &error });
        }
    };
    let mut inbox = Inbox::for_hello();
    inbox.set_owner(charge.owner());
    let hello = hello(&hub, &port, &mut inbox, side, local, &mut charge);
    match tokio::time::timeout(HELLO_TIMEOUT, hello).await {
        Ok(Ok(known)) => talk(&hub, &port, inbox, known, charge, (pid, gid)).await,
        Ok(Err(Some(refusal))) => refuse(&hub, port.socket(), side, refusal),
        Ok(Err(None)) => {}
        Err(_) => {
            let refusal = Refusal::new(RefuseReason::Timeout, "no hello in time");
            refuse(&hub, port.socket(), side, refusal);
        }
    }
}

/// A peer whose hello was accepted.
struct Known {
    role: Role,
    principal: Principal,
    rights: Rc<Rights>,
}

/// Waits for the `Hello` of a peer, which is `local` if it is of this host. `Err(None)` means that it
/// left without a word.
async fn hello(
    hub: &Hub,
    port: &Port,
    inbox: &mut Inbox,
    side: Side,
    local: Option<Admitted>,
    charge: &mut Charge,
) -> Result<Known, Option<Refusal>> {
    let body = loop {
        let malformed =
            |error: InboxError| Some(Refusal::new(RefuseReason::NotOurs, error.to_string()));
        if let Some(body) = inbox.next_body().map_err(malformed)? {
            break body;
        }
        let Some(len_max) = charge.receive_len(inbox, BASE_LEN) else {
            tokio::time::sleep(ROOM_PAUSE).await;
            continue;
        };
        match receive(hub, port, inbox, charge, len_max).await {
            Ok(()) => {}
            Err(End::Closed) => return Err(None),
            Err(
                End::Cut
                | End::Stalled
                | End::Fault(_)
                | End::NotOffered
                | End::Directory
                | End::Io(_),
            ) => {
                return Err(Some(Refusal::new(RefuseReason::NotOurs, "cut off in its hello")));
            }
        }
    };
    let Accepted { version, role } = handshake::accept(&body)?;
    let (principal, rights) = check_role(hub, &role, side, local)?;
    if principal != charge.principal {
        // Only the hello says whose token a peer over vsock knows.
        *charge = connect(hub, side, principal, rights.quota)?;
    }
    inbox.accept_hello();
    let welcome = HelloReply::Welcome(Welcome {
        version,
        software: env!("CARGO_PKG_VERSION").to_owned(),
        image: hub.settings.image.clone(),
        planes: Planes {
            descriptors: hub.settings.offers_descriptors(),
            inline: true,
            datasets: match &role {
                Role::Client(_) => {
                    let live = hub.live.borrow();
                    let granted = live.datasets.iter();
                    granted.filter(|name| rights.datasets.includes(name)).cloned().collect()
                }
                Role::Worker(_) => hub.live.borrow().datasets.clone(),
            },
        },
    });
    port.push(&welcome, Vec::new()).expect("a welcome is short");
    port.flush_or_wake();
    Ok(Known { role, principal, rights })
}

async fn talk(
    hub: &Hub,
    port: &Rc<Port>,
    mut inbox: Inbox,
    known: Known,
    mut charge: Charge,
    (pid, gid): (u32, u32),
) {
    let Known { role, principal, rights } = known;
    let (identity, name) = match role {
        Role::Client(_) => {
            let client = hub.add_client(port, (principal, pid), rights);
            let is_foreign = !hub.settings.policy.is_own(principal);
            (
                Identity::Client { client, gid, is_foreign },
                format!("client of {principal}, pid {pid}"),
            )
        }
        Role::Worker(intro) => {
            let name = format!("worker {}", intro.name);
            LOG.log(&log::Event::Joined { peer: &name, threads: intro.threads });
            hub.note(TrailKind::WorkerJoined, &intro.name, None, "");
            let known = hub.live.borrow().datasets.clone();
            for dataset in intro.planes.datasets.iter().filter(|d| !known.contains(d)) {
                LOG.log(&log::Event::UnknownDataset { peer: &name, dataset });
            }
            (Identity::Worker(hub.add_worker(port, intro)), name)
        }
    };
    let mut timer = FrameTimer::default();
    let end = loop {
        match take_turn(hub, port, &mut inbox, identity, &mut charge).await {
            Err(end) => break end,
            Ok(true) => continue,
            Ok(false) => {}
        }
        if let Err(end) = wait(hub, port, &mut inbox, &mut charge, &mut timer).await {
            break end;
        }
    };
    let closed = |cause| LOG.log(&log::Event::Closed { peer: &name, cause });
    match &end {
        End::Closed => {}
        End::Cut => closed(&"cut off inside a frame"),
        End::Stalled => {
            closed(&format_args!("a frame was not whole after {} s", FRAME_TIMEOUT.as_secs()));
        }
        End::Fault(error) => closed(error),
        End::NotOffered => {
            closed(&"sent descriptors on a connection that does not accept them");
        }
        End::Directory => closed(&"sent a directory"),
        End::Io(error) => LOG.log(&log::Event::Lost { peer: &name, error }),
    }
    let count = |role| {
        let reason = end.bad_frame();
        reason.into_iter().for_each(|reason| hub.core.borrow_mut().count_faulty(role, reason));
    };
    match identity {
        Identity::Client { client, .. } => {
            count(PeerRole::Client);
            hub.remove_client(client);
        }
        Identity::Worker(worker) => {
            count(PeerRole::Worker);
            LOG.log(&log::Event::Left { peer: &name });
            let worker_name = name.strip_prefix("worker ").unwrap_or(&name);
            hub.note(TrailKind::WorkerLeft, worker_name, None, "");
            hub.remove_worker(worker);
        }
    }
}

#[cfg(test)]
mod tests;
